"""A port that a supervisor holds: one server leaves, the next one goes on with whoever has connected."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from coalmine.routers.xds import IDLE_TIMEOUT_S
from coalmine.serving.__main__ import DRAIN_S
from coalmine.serving.host import HEAD_WITHIN_S
from coalmine.serving.port import HANDED_OVER
from tests.serving.releases import Built, tensors

AT_ONCE = 8
CLOSES_EARLY = """
import sys
import coalmine.serving.host as host
from coalmine.serving.__main__ import main
host.HEAD_WITHIN_S = 0.3
main()
"""


@contextmanager
def serving(built: Built, held: socket.socket, *start: str) -> Iterator[subprocess.Popen[str]]:
    """A server on the socket `held`, once it serves."""
    options = ["--release", str(built.folder), "--slot", "blue", "--port", "0", "--drain-s", "0.1"]
    process = subprocess.Popen(
        [sys.executable, *(start or ("-m", "coalmine.serving")), *options],
        env={HANDED_OVER: str(held.fileno())},
        pass_fds=[held.fileno()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def held() -> Iterator[socket.socket]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1024)
        yield held


def test_whoever_comes_while_a_server_leaves_is_answered_by_it_or_by_the_next(
    compiled: Built, held: socket.socket
) -> None:
    body = orjson.dumps({"inputs": tensors(compiled, [1])})
    seen: Counter[int | str] = Counter()
    ended = threading.Event()

    def come_again_and_again() -> None:
        while not ended.is_set():
            user = http.client.HTTPConnection(*held.getsockname(), timeout=30)
            try:
                user.connect()
                time.sleep(0.001)  # as a busy machine has it between a connection and its request
                user.request("POST", "/v2/models/delays/infer", body)
                seen[user.getresponse().status] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[repr(error)] += 1
            finally:
                user.close()

    users = [threading.Thread(target=come_again_and_again) for _ in range(AT_ONCE)]
    try:
        for thread in users:
            thread.start()
        for _ in range(4):
            with serving(compiled, held) as server:
                until = seen[200] + 50
                while seen[200] < until:
                    assert server.poll() is None
                    time.sleep(0.01)
                server.terminate()
                assert server.wait(timeout=30) == 0
        with serving(compiled, held):
            ended.set()
            for thread in users:
                thread.join()
    finally:
        ended.set()
    assert set(seen) == {200}


def test_the_proxy_gives_up_an_idle_connection_before_a_server_closes_it() -> None:
    """Else a request may be on its way to a server that is just closing its connection."""
    assert 2 * IDLE_TIMEOUT_S <= DRAIN_S
    assert 2 * IDLE_TIMEOUT_S <= HEAD_WITHIN_S


def test_a_connection_that_says_nothing_is_closed_in_the_end(compiled: Built, held: socket.socket) -> None:
    with serving(compiled, held, "-c", CLOSES_EARLY):
        user = http.client.HTTPConnection(*held.getsockname(), timeout=30)
        user.request("GET", "/v2/health/ready")
        assert user.getresponse().read()
        assert user.sock.recv(1) == b""
        user.close()
