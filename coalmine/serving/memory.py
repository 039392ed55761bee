"""What was predicted, by request id, until the true label comes.

Bounded in ids and in rows; the oldest go first. Ids that went are known by name for as long
again, so that a label that comes too late is told from one that nobody asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from itertools import islice
from typing import Any

MAX_IDS = 100_000
MAX_ROWS = 1_000_000

# One number, or one list of probabilities, for each row of the request. A tuple: the garbage collector
# soon leaves tuples of numbers alone, and would look through a hundred thousand lists again and again.
Scores = tuple[Any, ...]


class LabelOutcome(StrEnum):
    JOINED = "joined"
    UNKNOWN = "unknown"  # no prediction by this id here
    DUPLICATE = "duplicate"  # this id has its label
    LATE = "late"  # the prediction was forgotten before its label came


class ServedPredictions:
    def __init__(self, max_ids: int = MAX_IDS, max_rows: int = MAX_ROWS) -> None:
        self._max_ids = max_ids
        self._max_rows = max_rows
        self._rows = 0
        self.count = 0  # predictions so far
        self._served: OrderedDict[str, Scores | None] = OrderedDict()  # None: labelled
        self._forgotten: OrderedDict[str, None] = OrderedDict()

    def remember(self, request_id: str, scores: Scores) -> None:
        """An id that is used again stands for its newest prediction."""
        served = self._served
        if request_id in served:
            self._release_rows(served.pop(request_id))
        served[request_id] = scores
        self.count += 1
        self._rows += len(scores)
        while len(served) > self._max_ids or self._rows > self._max_rows:
            self._forget_oldest()

    def since(self, count: int, at_most: int) -> list[tuple[str, Scores]]:
        """The newest after the first `count`, in order, without those that have their label."""
        wanted = min(max(self.count - count, 0), at_most)
        newest = list(islice(reversed(self._served.items()), wanted))
        return [(request_id, scores) for request_id, scores in reversed(newest) if scores is not None]

    def waiting(self, request_id: str) -> Scores | None:
        """The prediction by this id, when its label has yet to come."""
        return self._served.get(request_id)

    def outcome(self, request_id: str) -> LabelOutcome:
        """What a label for this id meets now."""
        if request_id in self._served:
            return LabelOutcome.DUPLICATE if self._served[request_id] is None else LabelOutcome.JOINED
        return LabelOutcome.LATE if request_id in self._forgotten else LabelOutcome.UNKNOWN

    def mark_labelled(self, request_id: str) -> None:
        self._release_rows(self._served[request_id])
        self._served[request_id] = None

    def _forget_oldest(self) -> None:
        request_id, scores = self._served.popitem(last=False)
        self._release_rows(scores)
        self._forgotten[request_id] = None
        if len(self._forgotten) > self._max_ids:
            self._forgotten.popitem(last=False)

    def _release_rows(self, scores: Scores | None) -> None:
        if scores is not None:
            self._rows -= len(scores)
