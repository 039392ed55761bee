"""A load generator: one process, one event loop, prebuilt requests over connections kept open.

Closed loop (no rate): every connection sends as soon as it has its answer, which finds the
saturation. Open loop (a rate): requests leave on a schedule that no answer can delay, and a
latency counts from the moment the request *should* have left. A server that stalls therefore
pays for every request that waited, also for those that waited here for a free connection.

`python -m benchmarks.serving.load` reads a `Plan` as JSON from stdin and writes a `Measured` to stdout.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import math
import os
import re
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

SHARES = (0.5, 0.99, 0.999)


@dataclass(frozen=True)
class Plan:
    """requests: a file of `Requests`. rate: requests per second, None for as many as the server takes.

    The first `warm_up_s` seconds are asked but not measured. Every `check_every`-th answer's body
    is read and compared with what the model says.
    """

    port: int
    requests: str
    connections: int
    warm_up_s: float
    measured_s: float
    rate: float | None = None
    check_every: int = 50
    answer_limit_s: float = 5.0  # how long an answer may take after the last request
    latencies: str | None = None  # a file to write them to, in seconds, as raw float64


@dataclass(frozen=True)
class Requests:
    """bodies: cycled. expected: the probability that each is to be answered with; None where the
    server does not infer. output: the output tensor that has it, None where there are no tensors."""

    path: str
    bodies: Sequence[str]
    expected: Sequence[float] | None
    output: str | None

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True)
class Measured:
    """asked = answered + unanswered: every request of the measured time is one or the other.

    latency_ms, lag_ms: by share (p50, p99, p99.9). The lag is how late the generator itself sent,
    in the open loop. An unanswered request counts with the time it waited in vain.
    cpu_share: of one core, used by this generator while it measured.
    all_answers: with the warm-up's, to set against the server's processor time.
    """

    asked: int
    answered: int
    unanswered: int
    statuses: dict[str, int]
    checked: int
    wrong: int
    elapsed_s: float
    latency_ms: dict[str, float]
    lag_ms: dict[str, float]
    cpu_share: float
    all_answers: int

    @property
    def per_second(self) -> float:
        return self.answered / self.elapsed_s

    @property
    def failed(self) -> int:
        """Whatever was not a correct answer."""
        good = self.statuses.get("200", 0)
        return self.asked - good + self.wrong


def measure(plan: Plan) -> Measured:
    """
    Raises:
        OSError: nobody listens.
        ValueError: an answer that this client does not read.
    """
    return uvloop.run(_Run(plan).measure())


# --- one run ---------------------------------------------------------------------------


@dataclass
class _Counts:
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    lags_s: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[bytes] = field(default_factory=Counter)
    asked: int = 0
    all_answers: int = 0


class _Run:
    """Times are `time.perf_counter` seconds; a request is its number from the start of the run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.told = Requests(**json.loads(Path(plan.requests).read_text(encoding="utf-8")))
        self.messages = [_message(self.told.path, body) for body in self.told.bodies]
        self.counts = _Counts()
        self.kept: list[tuple[int, bytes]] = []  # which request, its answer's body
        self.free: deque[_Connection] = deque()
        self.waiting: deque[tuple[int, float]] = deque()  # no connection was free: number, due time
        self.connections: list[_Connection] = []
        self.number = 0
        self.measured_from = math.inf  # set when the warm-up begins
        self.ends_at = math.inf
        self.error: Exception | None = None

    async def measure(self) -> Measured:
        loop = asyncio.get_running_loop()
        for _ in range(self.plan.connections):
            _, connection = await loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self.plan.port
            )
            self.connections.append(connection)
        self.free.extend(self.connections)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            cpu_s, elapsed_s = await (self._closed() if self.plan.rate is None else self._open())
            await self._last_answers()
        finally:
            gc.enable()
            for connection in self.connections:
                connection.close()
        if self.error is not None:
            raise self.error
        return self._summary(cpu_s, elapsed_s)

    async def _closed(self) -> tuple[float, float]:
        self.measured_from = time.perf_counter() + self.plan.warm_up_s
        self.ends_at = self.measured_from + self.plan.measured_s
        for connection in self.connections:
            connection.send_next()
        return await self._watch()

    async def _open(self) -> tuple[float, float]:
        assert self.plan.rate is not None
        warm_up, measured = (
            round(self.plan.rate * seconds) for seconds in (self.plan.warm_up_s, self.plan.measured_s)
        )
        with _Timer(time.perf_counter() + 0.01, 1 / self.plan.rate) as timer:
            self.measured_from = timer.due_s(warm_up)
            self.ends_at = timer.due_s(warm_up + measured)
            asyncio.get_running_loop().add_reader(timer.file, self._send_due, timer)
            try:
                return await self._watch()
            finally:
                asyncio.get_running_loop().remove_reader(timer.file)

    async def _watch(self) -> tuple[float, float]:
        """The processor time of the generator while it measured, and how long that was."""
        await asyncio.sleep(self.measured_from - time.perf_counter())
        cpu_s, started = time.process_time(), time.perf_counter()
        await asyncio.sleep(self.ends_at - time.perf_counter())
        return time.process_time() - cpu_s, time.perf_counter() - started

    async def _last_answers(self) -> None:
        until = time.perf_counter() + self.plan.answer_limit_s
        while time.perf_counter() < until and self.error is None:
            if not self.waiting and not any(each.is_busy for each in self.connections):
                return
            await asyncio.sleep(0.01)

    def _send_due(self, timer: _Timer) -> None:
        timer.clear()
        now = time.perf_counter()
        while (due := timer.due_s(self.number)) <= now and due < self.ends_at:
            number, self.number = self.number, self.number + 1
            if due >= self.measured_from:
                self.counts.asked += 1
            if self.free:
                self.free.popleft().send(number, due)
            else:
                self.waiting.append((number, due))

    def _summary(self, cpu_s: float, elapsed_s: float) -> Measured:
        counts, now = self.counts, time.perf_counter()
        answered = len(counts.latencies_s)
        left = [each.since for each in self.connections if each.is_busy] + [due for _, due in self.waiting]
        counts.latencies_s.extend(now - due for due in left if due >= self.measured_from)
        # A connection that broke took its request along.
        counts.latencies_s.extend([self.plan.answer_limit_s] * (counts.asked - len(counts.latencies_s)))
        if self.plan.latencies is not None:
            Path(self.plan.latencies).write_bytes(counts.latencies_s.tobytes())
        return Measured(
            asked=counts.asked,
            answered=answered,
            unanswered=counts.asked - answered,
            statuses={status.decode(): count for status, count in counts.statuses.items()},
            checked=len(self.kept) if self.told.expected is not None else 0,
            wrong=sum(self._is_wrong(number, body) for number, body in self.kept),
            elapsed_s=elapsed_s,
            latency_ms=_percentiles_ms(counts.latencies_s),
            lag_ms=_percentiles_ms(counts.lags_s),
            cpu_share=cpu_s / elapsed_s,
            all_answers=counts.all_answers,
        )

    def _is_wrong(self, number: int, body: bytes) -> bool:
        if self.told.expected is None:
            return False
        expected = self.told.expected[number % len(self.told.expected)]
        try:
            return not math.isclose(probability(body, self.told.output), expected, rel_tol=1e-6)
        except (ValueError, LookupError, TypeError):
            return True


class _Connection(asyncio.Protocol):
    """One request at a time. `since`: when the request under way left, or should have left."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.transport: Any = None
        self.is_busy = False
        self.since = 0.0
        self.number = 0
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self.is_busy = False
        if self in self.run.free:
            self.run.free.remove(self)

    def close(self) -> None:
        self.transport.close()

    def send(self, number: int, due: float) -> None:
        run = self.run
        self.is_busy, self.number, self.since = True, number, due
        self.transport.write(run.messages[number % len(run.messages)])
        if due >= run.measured_from:
            run.counts.lags_s.append(time.perf_counter() - due)

    def send_next(self) -> None:
        run, now = self.run, time.perf_counter()
        if now >= run.ends_at:
            return
        number, run.number = run.number, run.number + 1
        self.is_busy, self.number, self.since = True, number, now
        if now >= run.measured_from:
            run.counts.asked += 1
        self.transport.write(run.messages[number % len(run.messages)])

    def data_received(self, data: bytes) -> None:
        if self.received:
            data = self.received + data
        try:
            head_ends, whole = _ends(data)
        except ValueError as error:
            self.run.error = error
            self.close()
            return
        if len(data) < whole:
            self.received = data
            return
        self.received, self.is_busy = b"", False
        run, counts = self.run, self.run.counts
        counts.all_answers += 1
        if self.since >= run.measured_from:
            counts.latencies_s.append(time.perf_counter() - self.since)
            counts.statuses[data[9:12]] += 1
            if self.number % run.plan.check_every == 0:
                run.kept.append((self.number, data[head_ends:]))
        if run.plan.rate is None:
            self.send_next()
        elif run.waiting:
            self.send(*run.waiting.popleft())
        else:
            run.free.append(self)


# --- HTTP ------------------------------------------------------------------------------

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _message(path: str, body: str) -> bytes:
    content = body.encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _ends(data: bytes) -> tuple[int, int]:
    """Where the head of an answer and where the whole of it ends; beyond `data` while more must come."""
    head_ends = data.find(b"\r\n\r\n") + 4
    if head_ends < 4:
        return len(data), len(data) + 1
    length = _LENGTH.search(data, 0, head_ends)
    if length is None:
        raise ValueError(f"an answer without content-length, which this client does not read: {data[:500]!r}")
    return head_ends, head_ends + int(length[1])


def probability(body: bytes, output: str | None) -> float:
    """The last number of the output tensor `output`, or of the whole answer where it has no tensors.

    For two classes that is the probability of the second, whether one or both were answered.

    Raises:
        ValueError, LookupError, TypeError: another answer.
    """
    answer = json.loads(body)
    if output is not None:
        (answer,) = [each["data"] for each in answer["outputs"] if each["name"] == output]
    while isinstance(answer, list):
        answer = answer[-1]
    return float(answer)


def _percentiles_ms(seconds: array[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.percentile(np.frombuffer(seconds), [share * 100 for share in SHARES], method="higher")
    return {f"p{share * 100:g}": float(value) * 1000 for share, value in zip(SHARES, values, strict=True)}


# --- the schedule ----------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME, _NONBLOCK_CLOEXEC = 1, 1, os.O_NONBLOCK | os.O_CLOEXEC


class _Timer:
    """Linux's timerfd: an event loop's own timers are whole milliseconds, ten requests at 10,000 a second.

    It runs on the clock of `time.perf_counter`.
    """

    def __init__(self, start_s: float, interval_s: float) -> None:
        self._start_ns, self._interval_ns = round(start_s * 1e9), round(interval_s * 1e9)

    def due_s(self, number: int) -> float:
        """When request `number` should leave."""
        return (self._start_ns + number * self._interval_ns) / 1e9

    def clear(self) -> None:
        """Forget that it rang; the clock says how often."""
        os.read(self.file, 8)

    def __enter__(self) -> _Timer:
        self.file = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        times = [part for each in (self._interval_ns, self._start_ns) for part in divmod(each, 1_000_000_000)]
        if self.file < 0 or _libc.timerfd_settime(
            self.file, _TFD_TIMER_ABSTIME, (ctypes.c_long * 4)(*times), None
        ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Plan(**json.load(sys.stdin))))))
