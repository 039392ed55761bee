"""Where the processor time of one request of ours goes: its steps by themselves, in this process.

Each step is the server's own function, asked about one row after the other; the last one is what
the whole application takes beyond them, and beyond the bare stack's handler. Under load the model
answers several rows at once, which costs less for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from benchmarks.serving import cases
from benchmarks.serving.bare import Bare, Recorded
from benchmarks.serving.cases import Case
from coalmine.serving.app import Serving
from coalmine.serving.batching import Batcher
from coalmine.serving.http import parse_json
from coalmine.serving.protocol import Protocol
from coalmine.serving.release import load_release
from coalmine.serving.telemetry import Telemetry
from coalmine.slots import Slot
from coalmine.spec import Task

_REQUESTS, _REPETITIONS = 500, 12
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

    async def serve() -> Any:
        return Serving(predictor, Slot.BLUE)

    async def answer_at_once() -> Any:
        return Bare(Recorded(200, [], ""))

    async def batch() -> float:
        batcher: Batcher[Any] = Batcher(lambda *_: outputs[0], is_quick=True, max_rows=1, max_waiting=1)
        return await _least_us_in_turn(lambda rows: batcher.predict(rows, 1), taken)

    path = f"/v2/models/{case.name}/infer"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        alone = runner.run(_application_us(answer_at_once, path, bodies))
        steps["batching: a turn of the event loop"] = runner.run(batch()) - alone
        whole = runner.run(_application_us(serve, path, bodies)) - alone
    return {**steps, "routing, deadline, ids, headers, memory for labels": whole - sum(steps.values())}


async def _application_us(make: Callable[[], Awaitable[Any]], path: str, bodies: Sequence[bytes]) -> float:
    """Everything between the HTTP stack's call and the answer given back to it."""

    class Exchange:
        def __init__(self, body: bytes) -> None:
            self._body = body

        async def __call__(self) -> bytes:
            return self._body

        def response_bytes(self, status: int, _: object, body: bytes) -> None:
            assert status == 200, body

    def scope(body: bytes) -> Any:
        headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
        return SimpleNamespace(method="POST", path=path, headers=headers)

    asked = [(scope(body), Exchange(body)) for body in bodies]
    app = await make()
    try:
        return await _least_us_in_turn(lambda each: app.__rsgi__(*each), asked)
    finally:
        await app.close()


async def _least_us_in_turn(step: Callable[[Any], Awaitable[object]], inputs: Sequence[Any]) -> float:
    """Each in a task of its own, as the HTTP stack starts one for each request."""

    async def task(each: Any) -> None:
        await step(each)

    spent = []
    for _ in range(_REPETITIONS):
        started = time.process_time()
        for each in inputs:
            await asyncio.create_task(task(each))
        spent.append(time.process_time() - started)
    return min(spent) / len(inputs) * 1e6


def _least_us(step: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    spent = []
    for _ in range(_REPETITIONS):
        started = time.process_time()
        for each in inputs:
            step(each)
        spent.append(time.process_time() - started)
    return min(spent) / len(inputs) * 1e6
