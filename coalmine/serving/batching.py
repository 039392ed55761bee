"""Requests that wait at the same moment are predicted together.

One row costs a scikit-learn pipeline almost as much as fifty: the cost is in the calls. While the
model works, in a thread of its own, what arrives becomes the next batch. A request that finds the
model idle never waits for another one, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from coalmine.evaluation.predictions import Predictions

Predict = Callable[[pd.DataFrame], Predictions]
Waiting = tuple[pd.DataFrame, "asyncio.Future[Predictions]"]


class Batcher:
    def __init__(self, predict: Predict, max_rows: int) -> None:
        self._predict = predict
        self._max_rows = max_rows
        # One thread, in the order of arrival: two would only take turns with the interpreter. Against
        # the event loop's own thread it costs nothing, and a long prediction holds up no health check.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._waiting: deque[Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def predict(self, frame: pd.DataFrame) -> Predictions:
        """
        Raises:
            Refusal: as for this request alone.
        """
        future: asyncio.Future[Predictions] = asyncio.get_running_loop().create_future()
        self._waiting.append((frame, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            await self._answer(self._next_batch())

    def _next_batch(self) -> list[Waiting]:
        batch = [self._waiting.popleft()]
        rows = len(batch[0][0])
        while self._waiting and rows + len(self._waiting[0][0]) <= self._max_rows:
            batch.append(self._waiting.popleft())
            rows += len(batch[-1][0])
        return batch

    async def _answer(self, batch: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            together = await loop.run_in_executor(
                self._thread, self._predict_all, [frame for frame, _ in batch]
            )
        except Exception as error:  # whatever it is, nobody may wait for ever
            if len(batch) == 1:
                _settle(batch[0][1], error)
            else:  # one request must not take others along
                for each in batch:
                    await self._answer([each])
            return
        for (_, future), predictions in zip(batch, together, strict=True):
            _settle(future, predictions)

    def _predict_all(self, frames: list[pd.DataFrame]) -> list[Predictions]:
        if len(frames) == 1:
            return [self._predict(frames[0])]
        together = self._predict(pd.concat(frames, ignore_index=True))
        ends = np.cumsum([len(frame) for frame in frames])
        return [
            together.of(np.arange(end - len(frame), end)) for frame, end in zip(frames, ends, strict=True)
        ]


def _settle(future: asyncio.Future[Predictions], result: Predictions | Exception) -> None:
    if future.done():  # the client has gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
