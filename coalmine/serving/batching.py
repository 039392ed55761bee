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
from typing import Any, Generic, Protocol, TypeVar

from coalmine.serving.refusal import FailureKind, Refusal

RETRY_AFTER_S = 1
_AT_ONCE = 256  # rows that a quick model answers in the event loop: a few hundred microseconds

Input = TypeVar("Input")  # rows as the model takes them
Outputs = dict[str, list[Any]]


class Waiting(Protocol):
    """Who waits for a prediction. is_over: no more, so none is made."""

    @property
    def is_over(self) -> bool: ...


# Told the outputs of its own rows, or what it meets alone; never raises.
Told = Callable[[Outputs | Exception], None]
Job = tuple[Input, int, Waiting, Told]


class Batcher(Generic[Input]):
    """predict: several requests' rows, and how many each has, to the outputs of all rows.

    is_quick: a few rows take microseconds; max_waiting: requests.
    Made within the event loop that it works in.
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
        self._waiting: deque[Job[Input]] = deque()
        self._is_working = False
        # One thread, in the order of arrival: two would only take turns with the interpreter. Against
        # the event loop's own thread it costs nothing, and a long prediction holds up no health check.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._loop = asyncio.get_running_loop()

    def predict(self, rows: Input, count: int, who: Waiting, told: Told) -> None:
        """`told` gets the outputs of `rows`, which are `count`, unless `who` is over by then.

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
        self._waiting.append((rows, count, who, told))
        if not self._is_working:
            self._is_working = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        batch, rows = self._next_batch()
        if not batch:
            self._is_working = False
        elif rows <= self._at_once:
            self._go_on(batch, self._predict_all(batch))
        else:
            working = self._loop.run_in_executor(self._thread, self._predict_all, batch)
            working.add_done_callback(lambda done: self._go_on(batch, done.result()))

    def _go_on(self, batch: list[Job[Input]], together: Outputs | list[Outputs | Exception]) -> None:
        _tell(batch, together)
        if self._waiting:
            self._loop.call_soon(self._work)  # after what else is due: a health check, a new request
        else:
            self._is_working = False

    def _next_batch(self) -> tuple[list[Job[Input]], int]:
        batch: list[Job[Input]] = []
        waiting, rows = self._waiting, 0
        while waiting and (not batch or rows + waiting[0][1] <= self._max_rows):
            job = waiting.popleft()
            if not job[2].is_over:
                batch.append(job)
                rows += job[1]
        return batch, rows

    def _predict_all(self, batch: list[Job[Input]]) -> Outputs | list[Outputs | Exception]:
        """The outputs of all rows, or what each request meets alone where together they fail."""
        try:
            return self._predict([job[0] for job in batch], [job[1] for job in batch])
        except Exception as error:  # whatever it is, nobody may wait for ever
            if len(batch) == 1:
                return [error]
        return [self._alone(job[0], job[1]) for job in batch]

    def _alone(self, rows: Input, count: int) -> Outputs | Exception:
        try:
            return self._predict([rows], [count])
        except Exception as error:
            return error


def _tell(batch: list[Job[Input]], together: Outputs | list[Outputs | Exception]) -> None:
    if isinstance(together, list):
        for (_, _, _, told), result in zip(batch, together, strict=True):
            told(result)
    elif len(batch) == 1:
        batch[0][3](together)
    else:
        start = 0
        for _, count, _, told in batch:
            end = start + count
            told({name: values[start:end] for name, values in together.items()})
            start = end
