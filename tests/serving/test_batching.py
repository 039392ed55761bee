"""Requests that wait at the same moment are predicted together, and each gets its own answer."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pandas as pd
import pytest

from coalmine.evaluation.predictions import Predictions
from coalmine.serving.batching import Batcher
from coalmine.serving.refusal import FailureKind, Refusal
from coalmine.spec import Task


class Model:
    """Answers each row with itself; refuses a batch that holds -1. Notes the sizes of its batches."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.batches: list[int] = []
        self._seconds = seconds

    def predict(self, frame: pd.DataFrame) -> Predictions:
        self.batches.append(len(frame))
        time.sleep(self._seconds)
        if (frame["x"] < 0).any():
            raise Refusal(FailureKind.MODEL, "minus", 500)
        return Predictions(Task.REGRESSION, {"prediction": frame["x"].to_numpy()}, ())


def ask(batcher: Batcher, *values: float) -> asyncio.Task[Predictions]:
    return asyncio.create_task(batcher.predict(pd.DataFrame({"x": values})))


async def answers(*tasks: asyncio.Task[Predictions]) -> list[list[float]]:
    return [(await task).outputs["prediction"].tolist() for task in tasks]


def test_a_single_request_is_predicted_alone_and_at_once() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        return await answers(ask(Batcher(model.predict, 100), 3.0))

    assert asyncio.run(story()) == [[3.0]]
    assert model.batches == [1]


def test_what_arrives_while_the_model_works_is_one_batch_and_everybody_gets_their_own_rows() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        batcher = Batcher(model.predict, 100)
        first = ask(batcher, 0.0)
        await asyncio.sleep(0.005)
        later = [ask(batcher, *np.arange(n, 2 * n)) for n in (1, 2, 3)]
        return await answers(first, *later)

    assert asyncio.run(story()) == [[0.0], [1.0], [2.0, 3.0], [3.0, 4.0, 5.0]]
    assert model.batches == [1, 6]


def test_a_batch_holds_no_more_rows_than_it_may() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        batcher = Batcher(model.predict, 4)
        return await answers(ask(batcher, 0.0), *(ask(batcher, 1.0, 2.0, 3.0) for _ in range(3)))

    assert len(asyncio.run(story())) == 4
    assert max(model.batches) <= 4


def test_a_request_that_the_model_refuses_takes_no_other_along() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        batcher = Batcher(model.predict, 100)
        first = ask(batcher, 0.0)
        await asyncio.sleep(0.005)
        good, bad, also_good = ask(batcher, 1.0), ask(batcher, -1.0), ask(batcher, 2.0)
        with pytest.raises(Refusal):
            await bad
        return await answers(first, good, also_good)

    assert asyncio.run(story()) == [[0.0], [1.0], [2.0]]


def test_a_client_that_has_gone_harms_nobody() -> None:
    model = Model()

    async def story() -> list[list[float]]:
        batcher = Batcher(model.predict, 100)
        gone, stays = ask(batcher, 1.0), ask(batcher, 2.0)
        await asyncio.sleep(0.005)
        gone.cancel()
        return await answers(stays)

    assert asyncio.run(story()) == [[2.0]]


def test_a_model_that_answers_another_number_of_rows_leaves_nobody_waiting() -> None:
    def predict(frame: pd.DataFrame) -> Predictions:
        time.sleep(0.01)
        return Predictions(Task.REGRESSION, {"prediction": np.zeros(max(0, len(frame) - 1))}, ())

    async def story() -> list[object]:
        batcher = Batcher(predict, 100)
        tasks = [ask(batcher, 0.0, 1.0) for _ in range(3)]
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    assert len(asyncio.run(story())) == 3
