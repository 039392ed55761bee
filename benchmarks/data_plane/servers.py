"""Fake model servers, many in one process: quick, and as bad as they are told to be.

`python -m benchmarks.data_plane.servers '[{"port": 20001, ...}, ...]'` serves until SIGTERM. Answers
name their slot in `x-coalmine-slot`, as a model server's do. Only /infer has faults: whoever asks for
its health finds it well, as with a model that loads and then misbehaves.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, cast

import uvloop

from coalmine.slots import Slot


class Fault(StrEnum):
    NONE = "none"
    HANG = "hang"  # takes requests and never answers
    CRASH = "crash"  # its process ends
    REFUSE = "refuse"  # nobody listens any more, and the process lives


@dataclass(frozen=True)
class Server:
    """
    failing: share of requests that are answered 500. median_ms, sigma: of the log-normal duration.
    slow_times: of all durations. fault, `failing` and `slow_times` begin `onset_s` after the first request.
    """

    port: int
    slot: Slot
    base: float
    failing: float
    median_ms: float
    sigma: float = 0.4
    slow_times: float = 1.0
    fault: Fault = Fault.NONE
    onset_s: float = 0.0


def command(servers: list[Server]) -> list[str]:
    """How to start a process with `servers`."""
    return [
        sys.executable,
        "-m",
        "benchmarks.data_plane.servers",
        json.dumps([asdict(server) for server in servers]),
    ]


# --- in the process --------------------------------------------------------------------


class _Listening:
    """One server at work."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.chance = random.Random()
        self.first_s: float | None = None
        self.listener: asyncio.Server | None = None
        self.connections: set[_Connection] = set()
        self.requests = 0
        self.started_s = time.time()

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        # An early connection must not find a port that nobody has bound yet; the backlog as a server's.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.server.port))
        self.listener = await loop.create_server(lambda: _Connection(self), sock=sock, backlog=1024)

    @property
    def is_faulty(self) -> bool:
        """Called once per request."""
        now_s = asyncio.get_running_loop().time()
        if self.first_s is None:
            self.first_s = now_s
        return now_s - self.first_s >= self.server.onset_s

    def refuse(self) -> None:
        assert self.listener is not None
        self.listener.close()
        for connection in list(self.connections):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, listening: _Listening) -> None:
        self.at = listening
        self.received = b""
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.at.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.at.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head_ends = self.received.find(b"\r\n\r\n")
        if head_ends < 0:
            return
        head = self.received[:head_ends].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(self.received) < head_ends + 4 + length:
            return
        path = self.received.split(b" ", 2)[1]
        self.received = b""
        if path.endswith(b"/infer"):
            self._infer()
        elif path.startswith(b"/metrics"):
            self._answer(200, _metrics(self.at))
        else:
            self._answer(200, b"{}")

    def _infer(self) -> None:
        at, server = self.at, self.at.server
        faulty, failing, slow = at.is_faulty, server.base, 1.0
        at.requests += 1
        if faulty:
            failing, slow = server.failing, server.slow_times
            if server.fault is Fault.HANG:
                return
            if server.fault is Fault.CRASH:
                os._exit(3)
            if server.fault is Fault.REFUSE:
                at.refuse()
                return
        status = 500 if at.chance.random() < failing else 200
        seconds = server.median_ms / 1000 * slow * math.exp(at.chance.gauss(0.0, server.sigma))
        asyncio.get_running_loop().call_later(seconds, self._answer, status, _ANSWER)

    def _answer(self, status: int, body: bytes) -> None:
        if self.transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {status} X\r\nx-coalmine-slot: {self.at.server.slot}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


_ANSWER = b'{"outputs": [{"name": "probability", "shape": [1], "datatype": "FP64", "data": [0.5]}]}'


def _metrics(at: _Listening) -> bytes:
    """What the telemetry reads of a model server's: scores, all of them 0.5 here, and losses."""
    fixed = f'model_name="m",slot="{at.server.slot}"'
    bounds = [*(str(round(0.05 * step, 2)) for step in range(1, 21)), "+Inf"]
    lines = [
        f'coalmine_score_bucket{{{fixed},le="{bound}"}} {at.requests if float(bound) >= 0.5 else 0}'
        for bound in bounds
    ]
    lines += [
        f"coalmine_score_count{{{fixed}}} {at.requests}",
        f"coalmine_loss_count{{{fixed}}} 0",
        f"coalmine_loss_sum{{{fixed}}} 0",
        f"coalmine_started_seconds{{{fixed}}} {at.started_s}",
        "",
    ]
    return "\n".join(lines).encode()


async def _serve(servers: list[Server]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    for server in servers:
        await _Listening(server).listen()
    await ended.wait()


def _server(content: dict[str, Any]) -> Server:
    return Server(**{**content, "slot": Slot(content["slot"]), "fault": Fault(content["fault"])})


if __name__ == "__main__":
    uvloop.run(_serve([_server(content) for content in json.loads(sys.argv[1])]))
