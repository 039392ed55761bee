"""Where the processor time of one request of ours goes: its steps by themselves, in this process.

Each step is the server's own function, asked about one row after the other; "routing..." is what
the whole application takes beyond them. Under load the model answers several rows at once, which
costs less for each, so that these steps add up to a little more than is measured from outside.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from benchmarks.serving import cases
from benchmarks.serving.cases import Case
from coalmine.serving.app import Serving
from coalmine.serving.http import parse_json
from coalmine.serving.predictor import Predictor
from coalmine.serving.protocol import Protocol
from coalmine.serving.release import load_release
from coalmine.serving.telemetry import Telemetry
from coalmine.slots import Slot
from coalmine.spec import Task

_REQUESTS, _REPETITIONS = 1000, 5
_ID = "3f1c9a0c4b5d4e6f8a9b0c1d2e3f4a5b"


def profile(case: Case, release: Path) -> dict[str, float]:
    """Microseconds of processor time by step, the least of several repetitions."""
    bodies = [body.encode() for body in cases.requests(case, {})[:_REQUESTS]]
    predictor = load_release(release)
    protocol = Protocol(predictor.manifest)
    telemetry = Telemetry({"model_name": case.name}, Task.BINARY, lambda: 0)

    messages = [parse_json(body) for body in bodies]
    asked = [protocol.read(message) for message in messages]
    taken = [predictor.take(each.rows) for each in asked]
    outputs = [predictor.predict([rows], [1]) for rows in taken]

    def count(found: dict[str, list[Any]]) -> None:
        telemetry.predicted(found)
        telemetry.answered(200, 0.001)

    steps = {
        "JSON": _least_us(parse_json, bodies),
        "tensors to a row": _least_us(protocol.read, messages),
        "row to the model's input": _least_us(lambda each: predictor.take(each.rows), asked),
        "prediction": _least_us(lambda rows: predictor.predict([rows], [1]), taken),
        "answer": _least_us(
            lambda pair: protocol.answer(pair[0], _ID, pair[1]), list(zip(asked, outputs, strict=True))
        ),
        "telemetry": _least_us(count, outputs),
    }
    whole = _application_us(predictor, case, bodies)
    return {**steps, "routing, batching, deadline, ids, memory for labels": whole - sum(steps.values())}


def _application_us(predictor: Predictor[Any], case: Case, bodies: Sequence[bytes]) -> float:
    """Everything between the HTTP stack's call and the answer given back to it."""

    class Exchange:
        def __init__(self, body: bytes) -> None:
            self._body = body

        async def __call__(self) -> bytes:
            return self._body

        def response_bytes(self, status: int, headers: object, body: bytes) -> None:
            assert status == 200, body

    def scope(body: bytes) -> Any:
        headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
        return SimpleNamespace(method="POST", path=f"/v2/models/{case.name}/infer", headers=headers)

    asked = [(scope(body), Exchange(body)) for body in bodies]

    async def least_us() -> float:
        serving = Serving(predictor, Slot.BLUE)
        spent = []
        for _ in range(_REPETITIONS):
            started = time.process_time()
            for each, exchange in asked:
                # A task for each request, as Granian makes one.
                await asyncio.create_task(serving.__rsgi__(each, exchange))
            spent.append(time.process_time() - started)
        await serving.close()
        return min(spent) / len(asked) * 1e6

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(least_us())


def _least_us(step: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    spent = []
    for _ in range(_REPETITIONS):
        started = time.process_time()
        for each in inputs:
            step(each)
        spent.append(time.process_time() - started)
    return min(spent) / len(inputs) * 1e6
