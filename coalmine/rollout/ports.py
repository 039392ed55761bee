"""What a rollout needs from the world. Adapters live in routers/, telemetry/, reconcilers/, audit/.

Every port has one contract suite in tests/, which runs over each adapter and over the
simulator alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from coalmine.rollout.evidence import Reading
from coalmine.rollout.gates import Verdict
from coalmine.slots import Slot, Slots


@dataclass(frozen=True)
class UserKey:
    """Where a request says who its user is: a header or a cookie, by name."""

    kind: Literal["header", "cookie"]
    name: str


@dataclass(frozen=True)
class Match:
    """Requests that carry `value` under `key`."""

    key: UserKey
    value: str


@dataclass(frozen=True)
class TrafficSplit:
    """Where a model's requests go.

    weights: each slot's share in percent; the shares sum to 100.
    mirror_percent: so many of the requests are copied to the slot that did not get them by weight;
        nobody sees what it answers to a copy.
    match: such requests go to `match_to`, whatever the weights.
    sticky: the share is drawn by user, not by request: who was on the candidate stays there as its
        weight grows. Requests without the key are drawn by request.

    Whatever the split, a request whose header `x-coalmine-slot` names a slot goes there (testers, late
    labels), and counts as nobody's.
    """

    weights: Mapping[Slot, int]
    mirror_percent: int = 0
    match: Match | None = None
    match_to: Slot | None = None
    sticky: UserKey | None = None

    def __post_init__(self) -> None:
        if sum(self.weights.values()) != 100 or min(self.weights.values()) < 0:
            raise ValueError(f"weights must sum to 100: {dict(self.weights)}")
        if (self.match is None) != (self.match_to is None):
            raise ValueError("`match` and `match_to` belong together")

    @classmethod
    def all_to(cls, slot: Slot) -> TrafficSplit:
        return cls({slot: 100, slot.other: 0})

    @classmethod
    def canary(cls, candidate: Slot, weight_percent: int) -> TrafficSplit:
        return cls({candidate: weight_percent, candidate.other: 100 - weight_percent})


class Routing(StrEnum):
    """What a router may be able to do besides weights."""

    MIRROR = "mirror"
    MATCH = "match"
    STICKY_HEADER = "sticky by header"
    STICKY_COOKIE = "sticky by cookie"


class TrafficRouter(Protocol):
    """Moves one model's users between its two slots."""

    def supports(self) -> frozenset[Routing]:
        """What it can do besides weights. Needs no connection: a plan is refused before it starts."""

    def set_split(self, split: TrafficSplit) -> None:
        """Request `split`. Idempotent.

        Raises:
            Unsupported: this technology cannot route so; known when the plan is made (`supports`).
            RouterUnavailable: safe to retry.
            RouteConflict: another controller owns the route; do not retry.
        """

    def observed_split(self) -> TrafficSplit | None:
        """The split the data plane reports now, not the last one requested; None before the first.

        Raises:
            RouterUnavailable: safe to retry.
            RouteConflict: what it reports is no split of the two slots: another hand was there.
        """

    def give_back(self) -> None:
        """Git holds the role, and whoever makes Git true has it: the route's weights are its again.

        From the first `set_split` until here, nobody but the rollout moves the route. Idempotent.

        Raises:
            RouterUnavailable: safe to retry.
        """


class Telemetry(Protocol):
    def read(self, candidate: Slot) -> Reading:
        """Both arms' raw counters now.

        Raises:
            TelemetryUnavailable: could not measure, or what came back cannot be trusted (NaN,
                several series where one was meant). Never zeros in place of nothing.
        """


@dataclass(frozen=True)
class CheckResult:
    """What one look of a check said. value: what was measured, where it is a number; sentence: for people."""

    verdict: Verdict
    sentence: str
    value: float | None = None


@dataclass(frozen=True)
class Asked:
    """For what a check is asked. stage: in words, as `RolloutStage` says it."""

    candidate: Slot
    stage: str
    weights: Mapping[Slot, int]
    now_s: float


class Check(Protocol):
    """A gate that asks the world a question instead of counting requests: a query, a webhook."""

    def look(self, asked: Asked) -> CheckResult:
        """What it says now. Whatever goes wrong is `Verdict.ERROR` with its words, never an exception:
        it holds the stage and has its budget."""


class SlotHealth(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # will not become ready by waiting


@dataclass(frozen=True)
class SlotStatus:
    health: SlotHealth
    detail: str = ""  # the server's own words


class Reconciler(Protocol):
    """Makes what Git says run. Flux on a cluster, processes on a laptop."""

    def reconcile(self, slots: Slots) -> None:
        """Request that both slots run what `slots` says, and wait until that was taken up
        (not until it is ready). Idempotent.

        Raises:
            ReconcilerUnavailable: safe to retry.
        """

    def status(self, slot: Slot) -> SlotStatus:
        """
        Raises:
            ReconcilerUnavailable: safe to retry.
        """


class Ask(StrEnum):
    """What a person may ask of a running rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    PROMOTE = "promote"  # skip the remaining stages
    APPROVE = "approve"  # what an approval gate waits for
    SUPERSEDE = "supersede"  # a newer release is there: back to stable, then that one


@dataclass(frozen=True)
class Request:
    ask: Ask
    who: str
    at_s: float


class Journal(Protocol):
    """Where one rollout's state lives, outside its runner; readable while it runs."""

    def lease(self) -> AbstractContextManager[None]:
        """The right to move this model's route, for one runner at a time.

        Raises:
            AlreadyRunning: names the holder.
            Unavailable: safe to retry.
        """

    def load(self) -> dict[str, Any] | None:
        """The last saved state, None before the first."""

    def save(self, state: Mapping[str, object]) -> None:
        """Durably, before anything is done about it. Its `outbox` holds the events and ticks that are
        appended next: a runner that goes on from it appends them again.

        Raises:
            AlreadyRunning: the lease is another runner's by now; nothing was saved.
            JournalUnavailable: nobody can say whether it was saved. It holds for the runner that has the
                lease that it was not, and it may save another state in its place.
        """

    def append_event(self, event: Mapping[str, object]) -> None:
        """One line of the rollout's story, never twice (same `sequence`).

        Raises:
            AlreadyRunning: as `save`.
        """

    def append_tick(self, tick: Mapping[str, object]) -> None:
        """All that was seen in one tick, with which every decision can be recomputed; never twice (same
        `sequence`).

        Raises:
            AlreadyRunning: as `save`.
        """

    def take_requests(self) -> Sequence[Request]:
        """What people asked and no saved state holds yet, oldest first: each at least once. Once a state is
        saved, it holds what the call before returned."""


class Record(Protocol):
    """How a rollout ends in Git. Both idempotent: once for one rollout, however often called.

    Both raise Conflict or PushRejected where somebody else changed the same slots meanwhile.
    """

    def promote(self) -> None:
        """Swap the roles, with the evidence, in one commit.

        Raises:
            RemoteUnavailable: safe to retry.
        """

    def reject(self, reason: str) -> None:
        """Record that the candidate was turned away, and why, in one commit.

        Raises:
            RemoteUnavailable: safe to retry.
        """


class Clock(Protocol):
    def now_s(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None: ...
