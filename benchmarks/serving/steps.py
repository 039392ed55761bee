"""Where the processor time of one request of ours goes: its steps by themselves, in this process.

Each step is the server's own function. As under load, 16 rows are predicted at once, each another than
the one before; the last step is what the whole application takes beyond the others and beyond its HTTP
layer. In a server that is interrupted and waits, all of them take longer than here, where caches are warm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks.serving import cases
from benchmarks.serving.bare import Bare, Recorded
from benchmarks.serving.cases import Case
from benchmarks.serving.rounds import SATURATING
from coalmine.serving.app import Serving
from coalmine.serving.audience import Audience
from coalmine.serving.connection import Application, Connection, Connections
from coalmine.serving.http import parse_json
from coalmine.serving.protocol import Protocol
from coalmine.serving.release import load_release
from coalmine.serving.telemetry import Telemetry
from coalmine.slots import Slot
from coalmine.spec import Task

_REQUESTS, _REPETITIONS = 480, 12
_ID = "3f1c9a0c4b5d4e6f8a9b0c1d2e3f4a5b"


def profile(case: Case, release: Path) -> dict[str, float]:
    """Microseconds of processor time by step, the least of several repetitions."""
    bodies = [body.encode() for body in cases.requests(case, {})[:_REQUESTS]]
    predictor = load_release(release)
    protocol = Protocol(predictor.manifest)
    telemetry = Telemetry({"model_name": case.name}, predictor.manifest.digest, Task.BINARY, 0.0, lambda: 0)

    messages = [parse_json(body) for body in bodies]
    asked = [protocol.read(message) for message in messages]
    taken = [predictor.take(each.rows) for each in asked]
    outputs = [predictor.predict([rows], [1]) for rows in taken]
    batches = [taken[start : start + SATURATING] for start in range(0, _REQUESTS, SATURATING)]
    ones = [1] * SATURATING

    def count(found: dict[str, list[Any]]) -> None:
        telemetry.predicted(Audience.USERS, found)
        telemetry.answered(Audience.USERS, 200, 0.001)

    steps = {
        "JSON": _least_us(parse_json, bodies),
        "tensors to a row": _least_us(protocol.read, messages),
        "row to the model's input": _least_us(lambda each: predictor.take(each.rows), asked),
        "prediction": _least_us(lambda rows: predictor.predict(rows, ones), batches) / SATURATING,
        "answer": _least_us(
            lambda pair: protocol.answer(pair[0], _ID, pair[1]), list(zip(asked, outputs, strict=True))
        ),
        "telemetry": _least_us(count, outputs),
    }

    path = f"/v2/models/{case.name}/infer"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        layer = runner.run(_application_us(lambda: Bare(Recorded(200, [], "")), path, bodies))
        whole = runner.run(_application_us(lambda: Serving(predictor, Slot.BLUE), path, bodies)) - layer
    return {**steps, "routing, ids, batching, memory for labels": whole - sum(steps.values())}


class _Heard:
    """A client's end of a connection; counts its answers."""

    def __init__(self) -> None:
        self.answers = 0

    def write(self, answer: bytes) -> None:
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        self.answers += 1

    def is_closing(self) -> bool:
        return False


async def _application_us(make: Callable[[], Application], path: str, bodies: Sequence[bytes]) -> float:
    """From a request's bytes to its answer's, on as many connections as saturate a server."""
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    asked = [head.encode() % len(body) + body for body in bodies]
    connections, heard = Connections(make(), 10.0, 10.0), _Heard()

    def connected() -> Connection:
        connection = connections()
        connection.connection_made(cast(asyncio.Transport, heard))
        return connection

    clients, spent = [connected() for _ in range(SATURATING)], []
    for repetition in range(1, _REPETITIONS + 1):
        started = time.process_time()
        for start in range(0, len(asked), len(clients)):
            for client, data in zip(clients, asked[start:], strict=False):
                client.data_received(data)
            await asyncio.sleep(0)
        while heard.answers < repetition * len(asked):
            await asyncio.sleep(0)
        spent.append(time.process_time() - started)
    return min(spent) / len(asked) * 1e6


def _least_us(step: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    spent = []
    for _ in range(_REPETITIONS):
        started = time.process_time()
        for each in inputs:
            step(each)
        spent.append(time.process_time() - started)
    return min(spent) / len(inputs) * 1e6
