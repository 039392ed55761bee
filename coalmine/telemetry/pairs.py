"""How often the two slots answer the same request differently, while requests are copied.

Each model server remembers what it answered, by request id, and tells what is new
(`GET /served?after=N`). A copy has the id of its original, so the two answers are joined here. A request
that one of the two did not answer is not compared: the proxy counts its failure. Neither is one whose
label came before it was read: a server does not tell it any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from coalmine.endpoint import Endpoint, Unreachable
from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Pairs
from coalmine.slots import Slot
from coalmine.telemetry.answers import LARGEST_ANSWER, SERVER_TIMEOUT_S

# Answers of one slot whose other has not come; the oldest are given up. Where a part of the requests is
# copied, the others wait in vain: a few MB for each rollout.
WAITING = 20_000

Scores = tuple[float, ...]

_PATH = "/served?after="


class ServedPairs:
    """tolerance: two answers are different when any of their scores differ by more."""

    def __init__(self, model: str, ports: Mapping[Slot, int], tolerance: float) -> None:
        self._served = {slot: _Served(model, slot, port) for slot, port in ports.items()}
        self._tolerance = tolerance
        self._life = secrets.token_hex(4)  # the counts begin with this object, too
        self._epoch = ""
        self._compared = self._different = 0

    def read(self) -> Pairs:
        """What was compared since this epoch began. Another one begins when a server was started again.

        Raises:
            TelemetryUnavailable: a server is down, or what it says cannot be trusted.
        """
        for served in self._served.values():
            served.read()
        epoch = " ".join([self._life, *(served.epoch for served in self._served.values())])
        if epoch != self._epoch:
            self._epoch, self._compared, self._different = epoch, 0, 0
        self._compare()
        return Pairs(self._epoch, self._compared, self._different)

    def _compare(self) -> None:
        fewer, more = sorted((self._served[slot].waiting for slot in Slot), key=len)
        for request_id in [each for each in fewer if each in more]:
            one, other = fewer.pop(request_id), more.pop(request_id)
            if one is not None and other is not None:
                self._compared += 1
                self._different += differ(one, other, self._tolerance)
        for waiting in (fewer, more):
            for request_id in list(islice(waiting, max(0, len(waiting) - WAITING))):
                del waiting[request_id]


def differ(one: Scores, other: Scores, tolerance: float) -> bool:
    """Answers of another length differ, and so does a score that is no number."""
    return len(one) != len(other) or not all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class _Told:
    epoch: str
    next: int
    served: list[tuple[str, Scores]]


class _Served:
    """One slot's answers that wait for the other's. None: an id that came twice, of which nobody
    knows which is meant."""

    def __init__(self, model: str, slot: Slot, port: int) -> None:
        self._name = f"{model}-{slot}"
        self._endpoint = Endpoint(f"127.0.0.1:{port}", SERVER_TIMEOUT_S, LARGEST_ANSWER * 16)
        self._after = 0
        self.epoch = ""
        self.waiting: dict[str, Scores | None] = {}

    def read(self) -> None:
        """Take in what is new."""
        told = self._told()
        if told.epoch != self.epoch and self._after > 0:
            self._after = 0
            told = self._told()
        if told.epoch != self.epoch:
            self.waiting.clear()
        for request_id, scores in told.served:
            self.waiting[request_id] = None if request_id in self.waiting else scores
        self.epoch, self._after = told.epoch, told.next

    def _told(self) -> _Told:
        try:
            answer = self._endpoint.get(f"{_PATH}{self._after}")
            if answer.status != 200:
                raise TelemetryUnavailable(f"its server answers {answer.status} to {_PATH}")
            return _told_in(answer.body)
        except Unreachable as error:
            raise self._unknown(f"its server does not tell ({error})") from error
        except TelemetryUnavailable as error:
            raise self._unknown(str(error)) from error

    def _unknown(self, why: str) -> TelemetryUnavailable:
        return TelemetryUnavailable(f"What {self._name} answered to each request is not known: {why}")


def _told_in(body: bytes) -> _Told:
    try:
        told: Any = orjson.loads(body)
        served = [(str(each["id"]), tuple(map(float, each["scores"]))) for each in told["served"]]
        return _Told(str(told["epoch"]), int(told["next"]), served)
    except (ValueError, KeyError, TypeError) as error:
        raise TelemetryUnavailable(
            f"what its server tells is not what was asked for: {body[:80]!r}"
        ) from error
