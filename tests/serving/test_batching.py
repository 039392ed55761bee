"""Requests that wait at the same moment are predicted together, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from coalmine.serving.batching import Batcher, Outputs
from coalmine.serving.refusal import FailureKind, Refusal


class Model:
    """Answers each row with itself; refuses a batch that holds -1. Notes the sizes of its batches."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self._seconds = seconds

    def predict(self, inputs: Sequence[list[float]], counts: Sequence[int]) -> dict[str, list[Any]]:
        assert list(counts) == [len(rows) for rows in inputs]
        self.batches.append(sum(counts))
        self.threads.add(threading.current_thread().name)
        time.sleep(self._seconds)
        values = [value for rows in inputs for value in rows]
        if min(values) < 0:
            raise Refusal(FailureKind.MODEL, "minus", 500)
        return {"prediction": values}


def slow(model: Model, max_rows: int = 100, max_waiting: int = 100) -> Batcher[list[float]]:
    return Batcher(model.predict, is_quick=False, max_rows=max_rows, max_waiting=max_waiting)


def quick(model: Model, max_waiting: int = 100) -> Batcher[list[float]]:
    return Batcher(model.predict, is_quick=True, max_rows=10_000, max_waiting=max_waiting)


class Asker:
    """Waits for a prediction, unless it goes."""

    def __init__(self) -> None:
        self.is_over = False
        self.told: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

    def tell(self, outputs: Outputs | Exception) -> None:
        if isinstance(outputs, Exception):
            self.told.set_exception(outputs)
        else:
            self.told.set_result(outputs)


def ask(batcher: Batcher[list[float]], *values: float) -> asyncio.Future[Outputs]:
    asker = Asker()
    batcher.predict(list(values), len(values), asker, asker.tell)
    return asker.told


async def answers(*tasks: asyncio.Future[Outputs]) -> list[list[float]]:
    return [(await task)["prediction"] for task in tasks]


@pytest.mark.parametrize("make", [slow, quick])
def test_a_single_request_is_predicted_alone_and_at_once(make: Any) -> None:
    model = Model()

    async def story() -> list[list[float]]:
        return await answers(ask(make(model), 3.0))

    assert asyncio.run(story()) == [[3.0]]
    assert model.batches == [1]


def test_what_arrives_while_the_model_works_is_one_batch_and_everybody_gets_their_own_rows() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        batcher = slow(model)
        first = ask(batcher, 0.0)
        await asyncio.sleep(0.005)
        later = [ask(batcher, *(float(each) for each in range(n, 2 * n))) for n in (1, 2, 3)]
        return await answers(first, *later)

    assert asyncio.run(story()) == [[0.0], [1.0], [2.0, 3.0], [3.0, 4.0, 5.0]]
    assert model.batches == [1, 6]


def test_a_quick_model_answers_in_the_event_loop_what_came_in_during_one_turn_of_it() -> None:
    model = Model(0.0)

    async def story() -> list[list[float]]:
        batcher = quick(model)
        return await answers(*(ask(batcher, float(n)) for n in range(5)))

    assert asyncio.run(story()) == [[0.0], [1.0], [2.0], [3.0], [4.0]]
    assert (model.batches, model.threads) == ([5], {"MainThread"})


def test_many_rows_of_a_quick_model_hold_up_no_event_loop() -> None:
    model = Model(0.0)

    async def story() -> None:
        await answers(ask(quick(model), *(1.0 for _ in range(1000))))

    asyncio.run(story())
    assert "MainThread" not in model.threads


def test_the_event_loop_turns_while_a_slow_model_works() -> None:
    async def story() -> int:
        task, turns = ask(slow(Model(0.1)), 1.0), 0
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        return turns

    assert asyncio.run(story()) > 10


def test_a_batch_holds_no_more_rows_than_it_may() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        batcher = slow(model, max_rows=4)
        return await answers(ask(batcher, 0.0), *(ask(batcher, 1.0, 2.0, 3.0) for _ in range(3)))

    assert len(asyncio.run(story())) == 4
    assert max(model.batches) <= 4


@pytest.mark.parametrize("make", [slow, quick])
def test_a_request_that_the_model_refuses_takes_no_other_along(make: Any) -> None:
    async def story() -> list[list[float]]:
        batcher = make(Model())
        first = ask(batcher, 0.0)
        good, bad, also_good = ask(batcher, 1.0), ask(batcher, -1.0), ask(batcher, 2.0)
        with pytest.raises(Refusal):
            await bad
        return await answers(first, good, also_good)

    assert asyncio.run(story()) == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize("make", [slow, quick])
def test_whoever_comes_to_a_full_queue_is_told_to_come_later_and_the_others_are_answered(make: Any) -> None:
    async def story() -> tuple[list[list[float]], Refusal]:
        batcher = make(Model(), max_waiting=3)
        tasks = [ask(batcher, float(n)) for n in range(3)]  # before the model can begin
        with pytest.raises(Refusal) as refused:
            ask(batcher, 9.0)
        later = await answers(*tasks)
        assert await answers(ask(batcher, 4.0)) == [[4.0]]  # and there is room again
        return later, refused.value

    answered, refusal = asyncio.run(story())
    assert answered == [[0.0], [1.0], [2.0]]
    assert (refusal.status, refusal.kind) == (503, FailureKind.OVERLOADED)
    assert dict(refusal.headers) == {"retry-after": "1"}


def test_who_has_gone_costs_no_prediction_and_harms_nobody() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        batcher = slow(model)
        first = ask(batcher, 1.0)
        await asyncio.sleep(0.005)
        gone = Asker()
        batcher.predict([2.0], 1, gone, gone.tell)
        gone.is_over = True
        assert not gone.told.done()
        return await answers(first, ask(batcher, 3.0))

    assert asyncio.run(story()) == [[1.0], [3.0]]
    assert model.batches == [1, 1]
