"""Clients that send byte after byte, or none, hold nothing that others wait for, and are let go."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest

from tests.serving.releases import Built, tensors
from tests.serving.server_process import Server, running

INFER = "/v2/models/delays/infer"
READ = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n"
ASK = f"POST {INFER} HTTP/1.1\r\nhost: a\r\n".encode()
BODY = ASK + b"content-length: 5000\r\n\r\n"
CHUNKS = ASK + b"transfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Slow:
    """at_once: what it sends when it has connected; then: what again and again."""

    at_once: bytes
    then: bytes = b""


HEADS = {
    "nothing at all": Slow(b""),
    "a part of a preface": Slow(b"PRI * HT"),
    "a part of a method": Slow(b"GE"),
    "a header without end": Slow(READ[:-4] + b"\r\nx: ", b"a"),
    "headers without end": Slow(READ[:-2], b"x: y\r\n"),
    "empty lines": Slow(b"\r\n", b"\r\n"),
    "nothing after an answer": Slow(READ),
    "half a request after an answer": Slow(READ + READ[:-2], b"x"),
}
BODIES = {
    "half a body": Slow(BODY + b"{"),
    "a body byte by byte": Slow(BODY, b" "),
    "chunks without end": Slow(CHUNKS, b"1\r\n \r\n"),
    "half a chunk": Slow(CHUNKS + b"5"),
}


@contextlib.contextmanager
def sending(server: Server, clients: list[Slow], every_s: float) -> Iterator[list[socket.socket]]:
    """`clients` at work in the background. A connection that the server has ended is left alone."""
    sockets = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in clients]
    for each, client in zip(sockets, clients, strict=True):
        each.sendall(client.at_once)
    enough = threading.Event()

    def trickle() -> None:
        while not enough.wait(every_s):
            for each, client in zip(sockets, clients, strict=True):
                with contextlib.suppress(OSError):
                    each.send(client.then)

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        yield sockets
    finally:
        enough.set()
        sender.join()
        for each in sockets:
            each.close()


def last_words(connection: socket.socket) -> bytes:
    """All that the server sent until it closed; it may have been in the middle of our sending."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(2**16):
            said += chunk
    return said


@pytest.mark.timeout(120)
def test_who_does_not_come_to_the_end_is_let_go(compiled: Built) -> None:
    with (
        running(compiled.folder, "--timeout-s", "0.5", head_within_s=1.0) as server,
        sending(server, [*HEADS.values(), *BODIES.values()], every_s=0.05) as connections,
    ):
        said = dict(zip([*HEADS, *BODIES], map(last_words, connections), strict=True))
    for name, words in said.items():
        answers = words.count(b"HTTP/1.1 200 OK")
        assert answers == ("after an answer" in name), name
        assert words.startswith(b"HTTP/1.1 503 ") == (name in BODIES), name


def test_slow_clients_cost_an_honest_one_nothing(compiled: Built) -> None:
    """The best of some rounds, since other programs take their turns on this machine too."""
    slow = [*HEADS.values(), *BODIES.values()] * 5
    body = {"inputs": tensors(compiled, [1])}

    def p99_s(client: httpx.Client, url: str) -> float:
        took = []
        for _ in range(200):
            started_s = time.perf_counter()
            assert client.post(url, json=body).status_code == 200
            took.append(time.perf_counter() - started_s)
        return float(np.quantile(took, 0.99))

    ratios = []
    with running(compiled.folder) as server, httpx.Client(timeout=60) as client:
        url = server.url + INFER
        p99_s(client, url)
        for _ in range(5):
            alone_s = p99_s(client, url)
            with sending(server, slow, every_s=0.1):
                ratios.append(p99_s(client, url) / alone_s)
            if ratios[-1] < 3:
                return
    raise AssertionError(f"p99 beside slow clients to p99 alone: {ratios}")
