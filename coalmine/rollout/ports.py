"""What a rollout needs from the world. Adapters live in routers/, telemetry/, reconcilers/, audit/.

Every port has one contract suite in tests/, which runs over each adapter and over the
simulator alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from coalmine.rollout.evidence import Reading
from coalmine.slots import Slot, Slots


@dataclass(frozen=True)
class TrafficSplit:
    """Each slot's share of a model's requests, in percent; the shares sum to 100."""

    weights: Mapping[Slot, int]

    def __post_init__(self) -> None:
        if sum(self.weights.values()) != 100 or min(self.weights.values()) < 0:
            raise ValueError(f"weights must sum to 100: {dict(self.weights)}")

    @classmethod
    def all_to(cls, slot: Slot) -> TrafficSplit:
        return cls({slot: 100, slot.other: 0})

    @classmethod
    def canary(cls, candidate: Slot, weight_percent: int) -> TrafficSplit:
        return cls({candidate: weight_percent, candidate.other: 100 - weight_percent})


class TrafficRouter(Protocol):
    """Moves one model's users between its two slots."""

    def set_split(self, split: TrafficSplit) -> None:
        """Request `split`. Idempotent.

        Raises:
            RouterUnavailable: safe to retry.
            RouteConflict: another controller owns the route; do not retry.
        """

    def observed_split(self) -> TrafficSplit | None:
        """The split the data plane reports now, not the last one requested; None before the first.

        Raises:
            RouterUnavailable: safe to retry.
            RouteConflict: what it reports is no split of the two slots: another hand was there.
        """


class Telemetry(Protocol):
    def read(self, candidate: Slot) -> Reading:
        """Both arms' raw counters now.

        Raises:
            TelemetryUnavailable: could not measure, or what came back cannot be trusted (NaN,
                several series where one was meant). Never zeros in place of nothing.
        """


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
        """

    def load(self) -> dict[str, Any] | None:
        """The last saved state, None before the first."""

    def save(self, state: Mapping[str, object]) -> None:
        """Durably, before anything is done about it."""

    def append_event(self, event: Mapping[str, object]) -> None:
        """One line of the rollout's story, never twice (same `sequence`)."""

    def append_poll(self, poll: Mapping[str, object]) -> None:
        """One poll's counts, with which every decision can be recomputed; never twice (same `sequence`)."""

    def take_requests(self) -> Sequence[Request]:
        """What people asked since the last call, oldest first."""


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
