"""How often the two slots answer the same request differently, while requests are copied.

Each model server remembers what it answered, by request id, and tells what is new
(`GET /served?after=N`). A copy has the id of its original, so the two answers are joined here, whichever
of a slot's servers gave them. A request that one of the two did not answer is not compared: it counts as a
failure elsewhere. Neither is one whose label came before it was read: a server does not tell it any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
Ask = Callable[[str], bytes]
"""What a server answers to GET of a path. Raises TelemetryUnavailable."""
Servers = Callable[[], Mapping[Slot, Mapping[str, Ask]]]
"""Who serves in each slot now, by name. Raises TelemetryUnavailable."""

_PATH = "/served?after="


class ServedPairs:
    """tolerance: two answers are different when any of their scores differ by more."""

    def __init__(self, servers: Servers, tolerance: float) -> None:
        self._servers = servers
        self._served = {slot: _Served() for slot in Slot}
        self._tolerance = tolerance
        self._epoch = secrets.token_hex(4)  # the counts begin with this object, whoever is started again
        self._compared = self._different = 0

    def read(self) -> Pairs:
        """What was compared since this object began.

        Raises:
            TelemetryUnavailable: a server is down, or what it says cannot be trusted.
        """
        for slot, servers in self._servers().items():
            self._served[slot].read(servers)
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


def of_this_machine(model: str, ports: Mapping[Slot, int]) -> Servers:
    """One server in each slot, by the port where it listens on this machine."""
    asked: dict[Slot, dict[str, Ask]] = {}
    for slot, port in ports.items():
        endpoint = Endpoint(f"127.0.0.1:{port}", SERVER_TIMEOUT_S, LARGEST_ANSWER * 16)
        asked[slot] = {f"{model}-{slot}": partial(_ask, endpoint)}
    return lambda: asked


def _ask(endpoint: Endpoint, path: str) -> bytes:
    try:
        answer = endpoint.get(path)
    except Unreachable as error:
        raise TelemetryUnavailable(f"its server does not tell ({error})") from error
    if answer.status != 200:
        raise TelemetryUnavailable(f"its server answers {answer.status} to {path}")
    return answer.body


# --- what one slot answered ------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    epoch: str
    next: int
    served: list[tuple[str, Scores]]


class _Served:
    """One slot's answers that wait for the other's. None: an id that came twice, of which nobody
    knows which is meant."""

    def __init__(self) -> None:
        self._places: dict[str, _Told] = {}  # how far each server was read
        self.waiting: dict[str, Scores | None] = {}

    def read(self, servers: Mapping[str, Ask]) -> None:
        """Take in what is new."""
        self._places = {name: place for name, place in self._places.items() if name in servers}
        for name, ask in servers.items():
            told = _new_of(name, ask, self._places.get(name))
            for request_id, scores in told.served:
                self.waiting[request_id] = None if request_id in self.waiting else scores
            self._places[name] = _Told(told.epoch, told.next, [])


def _new_of(name: str, ask: Ask, before: _Told | None) -> _Told:
    try:
        told = _told_in(ask(f"{_PATH}{0 if before is None else before.next}"))
        if before is not None and told.epoch != before.epoch:  # it was started again: from its beginning
            told = _told_in(ask(f"{_PATH}0"))
    except TelemetryUnavailable as error:
        raise TelemetryUnavailable(f"What {name} answered to each request is not known: {error}") from error
    return told


def _told_in(body: bytes) -> _Told:
    try:
        told: Any = orjson.loads(body)
        served = [(str(each["id"]), tuple(map(float, each["scores"]))) for each in told["served"]]
        return _Told(str(told["epoch"]), int(told["next"]), served)
    except (ValueError, KeyError, TypeError) as error:
        raise TelemetryUnavailable(
            f"what its server tells is not what was asked for: {body[:80]!r}"
        ) from error
