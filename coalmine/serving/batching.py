"""Requests that wait at the same moment are predicted together.

One row costs a model almost as much as many: the cost is in the calls. A quick model answers, in
the event loop, whatever has come in during one turn of it: a request that comes alone waits for
nothing. A slow one works in a thread of its own, and what arrives meanwhile is its next batch.
Under load the batches grow by themselves; beyond a bound, whoever comes is told to come later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from coalmine.serving.refusal import FailureKind, Refusal

RETRY_AFTER_S = 1
_AT_ONCE = 256  # rows that a quick model answers in the event loop: a few hundred microseconds

Input = TypeVar("Input")  # rows as the model takes them
Outputs = dict[str, list[Any]]
Waiting = tuple[Input, int, "asyncio.Future[Outputs]"]  # a request's rows, and how many


class Batcher(Generic[Input]):
    """predict: several requests' rows, and how many each has, to the outputs of all rows.

    is_quick: a few rows take microseconds; max_waiting: requests.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Input], Sequence[int]], Outputs],
        *,
        is_quick: bool,
        max_rows: int,
        max_waiting: int,
    ) -> None:
        self._predict = predict
        self._max_rows = max_rows
        self._at_once = _AT_ONCE if is_quick else 0
        self._max_waiting = max_waiting
        self._waiting: deque[Waiting[Input]] = deque()
        self._is_working = False
        # One thread, in the order of arrival: two would only take turns with the interpreter. Against
        # the event loop's own thread it costs nothing, and a long prediction holds up no health check.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._loop = asyncio.get_running_loop()

    def predict(self, rows: Input, count: int) -> asyncio.Future[Outputs]:
        """The outputs of a request's rows, or the refusal that it meets alone.

        Raises:
            Refusal: too many wait already.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Refusal(
                FailureKind.OVERLOADED,
                f"{self._max_waiting} requests wait here already: send this one again a little later",
                503,
                (("retry-after", str(RETRY_AFTER_S)),),
            )
        future: asyncio.Future[Outputs] = self._loop.create_future()
        self._waiting.append((rows, count, future))
        if not self._is_working:
            self._is_working = True
            self._loop.call_soon(self._work)
        return future

    def _work(self) -> None:
        batch, rows = self._next_batch()
        if not batch:
            self._is_working = False
        elif rows <= self._at_once:
            self._go_on(batch, self._predict_all(batch))
        else:
            working = self._loop.run_in_executor(self._thread, self._predict_all, batch)
            working.add_done_callback(lambda done: self._go_on(batch, done.result()))

    def _go_on(self, batch: list[Waiting[Input]], together: Any) -> None:
        _answer(batch, together)
        if self._waiting:
            self._loop.call_soon(self._work)  # after what else is due: a health check, a new request
        else:
            self._is_working = False

    def _next_batch(self) -> tuple[list[Waiting[Input]], int]:
        batch: list[Waiting[Input]] = []
        waiting, rows = self._waiting, 0
        while waiting and (not batch or rows + waiting[0][1] <= self._max_rows):
            each = waiting.popleft()
            if not each[2].done():  # its time was over
                batch.append(each)
                rows += each[1]
        return batch, rows

    def _predict_all(self, batch: list[Waiting[Input]]) -> Outputs | list[Outputs | Exception]:
        """The outputs of all rows, or what each request meets alone where together they fail."""
        try:
            return self._predict([rows for rows, _, _ in batch], [count for _, count, _ in batch])
        except Exception as error:  # whatever it is, nobody may wait for ever
            if len(batch) == 1:
                return [error]
        return [self._alone(rows, count) for rows, count, _ in batch]

    def _alone(self, rows: Input, count: int) -> Outputs | Exception:
        try:
            return self._predict([rows], [count])
        except Exception as error:
            return error


def _answer(batch: list[Waiting[Input]], together: Outputs | list[Outputs | Exception]) -> None:
    start = 0
    for place, (_, count, future) in enumerate(batch):
        if isinstance(together, list):
            result = together[place]
        elif len(batch) == 1:
            result = together
        else:
            result = {name: values[start : start + count] for name, values in together.items()}
            start += count
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
