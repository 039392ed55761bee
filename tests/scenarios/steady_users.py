"""Users who ask a numbered release at an open-loop rate, from a process of their own, and read every answer.

A request leaves when its time has come, answered or not, and its latency counts from then. Users keep
their connections, as many as are asked at once. `python -m tests.scenarios.steady_users HOST:PORT PER_S`
answers each line on stdin with its counts so far, as JSON, and ends with stdin.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.scenarios.numbered import KEYS, MODEL, is_answer

PATIENCE_S = 10.0  # a request without an answer for this long has failed
_TOP = Path(__file__).parents[2]


@dataclass
class Counts:
    """What became of the requests.

    failures: by what the user saw. mixed: answers that their release cannot have given.
    """

    asked: int = 0
    answered: dict[str, int] = field(default_factory=Counter)  # by version
    failures: dict[str, int] = field(default_factory=Counter)
    mixed: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> int:
        return sum(self.answered.values())

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def per_s(self) -> float:
        return self.asked / self.elapsed_s


class SteadyUsers:
    """The process, seen from the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def counts(self) -> Counts:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counts(**json.loads(self._process.stdout.readline()))

    def await_answers(self, count: int) -> None:
        """Return when `count` more requests were answered well."""
        until = self.counts().good + count
        deadline = time.monotonic() + 60
        while (counts := self.counts()).good < until:
            assert time.monotonic() < deadline, counts
            time.sleep(0.02)

    def end(self) -> Counts:
        """Every request was answered or has failed when this returns."""
        said, _ = self._process.communicate(timeout=60)
        return Counts(**json.loads(said))


@contextmanager
def asking(address: str, per_s: int) -> Iterator[SteadyUsers]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.scenarios.steady_users", address, str(per_s)],
        cwd=_TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        users = SteadyUsers(process)
        users.await_answers(100)
        yield users
    finally:
        process.kill()
        process.communicate()


# --- in the process --------------------------------------------------------------------


class _Load:
    def __init__(self, host: str, port: int, per_s: int) -> None:
        self.address, self.per_s = (host, port), per_s
        self.requests = [_request(key) for key in range(KEYS)]
        self.counts = Counts()
        self.latencies_s = array("d")
        self.free: deque[_Connection] = deque()
        self.asked: set[asyncio.Task[None]] = set()

    async def run(self) -> Counts:
        self.started_s = time.perf_counter()
        sending = asyncio.create_task(self._send())
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
        )
        while await lines.readline():
            print(json.dumps(self._told()), flush=True)
        sending.cancel()
        await asyncio.gather(*self.asked)
        return self.counts

    async def _send(self) -> None:
        while True:
            due_s = self.started_s + self.counts.asked / self.per_s
            await asyncio.sleep(due_s - time.perf_counter())
            number, self.counts.asked = self.counts.asked, self.counts.asked + 1
            task = asyncio.create_task(self._ask(number % KEYS, due_s))
            self.asked.add(task)
            task.add_done_callback(self.asked.discard)

    async def _ask(self, key: int, due_s: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = self.free.popleft() if self.free else await self._connected()
                status, version, body = await connection.ask(self.requests[key])
        except Exception as error:  # whatever it is, a request that is not answered is one that failed
            self.counts.failures[f"{type(error).__name__}: {error}"] += 1
            return
        self.free.append(connection)
        if status != 200:
            self.counts.failures[f"{status} {body.decode()}"] += 1
            return
        (output,) = json.loads(body)["outputs"]
        if not is_answer(output["data"][0], version, key):
            self.counts.mixed.append(f"{version} answered {output['data']} to key {key}")
        self.latencies_s.append(time.perf_counter() - due_s)
        self.counts.answered[version] += 1

    async def _connected(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), *self.address
        )
        return connection

    def _told(self) -> dict[str, Any]:
        counts = self.counts
        counts.elapsed_s = time.perf_counter() - self.started_s
        counts.cpu_s = time.process_time()
        latencies = sorted(self.latencies_s)
        counts.latency_ms = {
            name: latencies[min(len(latencies) - 1, int(share * len(latencies)))] * 1000
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            if latencies
        }
        return vars(counts)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""
        self._answer: asyncio.Future[tuple[int, str, bytes]] | None = None

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, str, bytes]]:
        """Status, version told, and body."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        status, *lines = head.decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if len(body) < int(headers["content-length"]):
            return
        self._received = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(status.split()[1]), headers.get("x-coalmine-version", ""), body))

    def connection_lost(self, _: Exception | None) -> None:
        if self in self._load.free:
            self._load.free.remove(self)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the proxy closed the connection"))


def _request(key: int) -> bytes:
    body = json.dumps({"inputs": [{"name": "key", "shape": [1], "datatype": "INT64", "data": [key]}]})
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: users\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


async def _main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    load = _Load(host, int(port), int(sys.argv[2]))
    await load.run()
    print(json.dumps(load._told()))


if __name__ == "__main__":
    uvloop.run(_main())
