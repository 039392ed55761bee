"""Users of many models at once, in a process of their own: an open loop that keeps count of every answer.

Arrivals are Poisson, drawn before anything is answered; a latency counts from when a request should have
left. `python -m benchmarks.data_plane.users HOST:PORT` reads one JSON object a line from stdin:
`{"model": "m", "per_s": 100}` sets a rate (0 ends it), `{"tell": true}` prints the counts, and the end
of stdin ends it.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import uvloop

PATIENCE_S = 10.0  # a request without an answer for so long has failed
NOBODY = "nobody"  # the slot of an answer that names none: Envoy's own word for a server that did not answer


@dataclass(frozen=True)
class Counts:
    """asked: by model. answers: (model, slot, ended well) by the whole second of `time.time()` at which the
    request was due. lag_ms: how late the users themselves sent, by share; `recent` of them: the 99th
    percentile since it was last asked. cpu_s, elapsed_s: of theirs."""

    asked: dict[str, int]
    answers: dict[tuple[str, str, bool], dict[int, int]]
    lag_ms: dict[str, float]
    cpu_s: float
    elapsed_s: float

    def total(self, model: str, slot: str, *, well: bool, since_s: float = 0.0) -> int:
        seconds = self.answers.get((model, slot, well), {})
        return sum(count for second, count in seconds.items() if second >= since_s)


class Users:
    """The process, seen from whoever started it; any thread may ask."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line = threading.Lock()

    def ask(self, model: str, per_s: float) -> None:
        self._say({"model": model, "per_s": per_s})

    def counts(self) -> Counts:
        assert self._process.stdout is not None
        self._say({"tell": True})
        told = json.loads(self._process.stdout.readline())
        answers = {
            (m, s, w): {int(k): n for k, n in seconds.items()} for m, s, w, seconds in told.pop("answers")
        }
        return Counts(answers=answers, **told)

    def _say(self, content: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._line:
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()


@contextmanager
def users_of(address: str) -> Iterator[Users]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.data_plane.users", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Users(process)
    finally:
        process.kill()
        process.communicate()


# --- in the process --------------------------------------------------------------------


class _Load:
    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.chance = random.Random()
        self.rates: dict[str, float] = {}
        self.due: list[tuple[float, str]] = []  # a heap: when, who
        self.free: deque[_Connection] = deque()
        self.asked: Counter[str] = Counter()
        self.answers: dict[tuple[str, str, bool], Counter[int]] = {}
        self.lags_s: list[float] = []
        self.told_until = 0
        self.started_s = time.monotonic()
        self.to_wall_s = time.time() - time.monotonic()
        self.wake = asyncio.Event()
        self.connecting: set[asyncio.Task[None]] = set()

    def set_rate(self, model: str, per_s: float) -> None:
        self.rates[model] = per_s
        self.due = [(at, who) for at, who in self.due if who != model]
        heapq.heapify(self.due)
        if per_s > 0:
            heapq.heappush(self.due, (time.monotonic() + self.chance.expovariate(per_s), model))
        self.wake.set()

    async def send(self) -> None:
        while True:
            wait_s = self.due[0][0] - time.monotonic() if self.due else 1.0
            if wait_s > 0:
                self.wake.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), wait_s)
                continue
            at, model = heapq.heappop(self.due)
            heapq.heappush(self.due, (at + self.chance.expovariate(self.rates[model]), model))
            self.asked[model] += 1
            self.lags_s.append(time.monotonic() - at)
            if self.free:
                self.free.pop().ask(model, at)
            else:
                connecting = asyncio.create_task(self._connect_and_ask(model, at))
                self.connecting.add(connecting)
                connecting.add_done_callback(self.connecting.discard)

    async def _connect_and_ask(self, model: str, at: float) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), *self.address
            )
        except OSError:
            self.count(model, NOBODY, at, well=False)
            return
        connection.ask(model, at)

    def count(self, model: str, slot: str, at: float, *, well: bool) -> None:
        self.answers.setdefault((model, slot, well), Counter())[int(at + self.to_wall_s)] += 1

    def told(self) -> dict[str, Any]:
        lags, recent = sorted(self.lags_s), sorted(self.lags_s[self.told_until :])
        self.told_until = len(self.lags_s)
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {
            "asked": self.asked,
            "answers": [[*key, seconds] for key, seconds in self.answers.items()],
            "lag_ms": {
                "recent": 1000 * _at(recent, 0.99),
                **{name: 1000 * _at(lags, share) for name, share in shares.items()},
            },
            "cpu_s": time.process_time(),
            "elapsed_s": time.monotonic() - self.started_s,
        }


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.received = b""
        self.model, self.at = "", 0.0
        self.giving_up: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def ask(self, model: str, at: float) -> None:
        self.model, self.at = model, at
        self.giving_up = asyncio.get_running_loop().call_later(PATIENCE_S, self.transport.abort)
        head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: users\r\ncontent-length: {len(_BODY)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + _BODY)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        head = head.lower()
        if len(body) < int(_value(head, b"content-length") or 0):
            return
        self.received = b""
        slot = (_value(head, b"x-coalmine-slot") or NOBODY.encode()).decode()
        self._ended(slot, well=head.startswith(b"http/1.1 200"))
        self.load.free.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self.giving_up is not None:
            self._ended(NOBODY, well=False)
        elif self in self.load.free:
            self.load.free.remove(self)

    def _ended(self, slot: str, *, well: bool) -> None:
        assert self.giving_up is not None
        self.giving_up.cancel()
        self.giving_up = None
        self.load.count(self.model, slot, self.at, well=well)


_BODY = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}]}'


def _at(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else 0.0


def _value(head: bytes, name: bytes) -> bytes | None:
    at = head.find(b"\r\n" + name + b":")
    return None if at < 0 else head[at + len(name) + 3 :].split(b"\r", 1)[0].strip()


async def _main() -> None:
    load = _Load(sys.argv[1])
    sending = asyncio.create_task(load.send())
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        content = json.loads(line)
        if content.get("tell"):
            print(json.dumps(load.told()), flush=True)
        else:
            load.set_rate(content["model"], content["per_s"])
    sending.cancel()


if __name__ == "__main__":
    uvloop.run(_main())
