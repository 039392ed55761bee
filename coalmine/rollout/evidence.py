"""What a rollout measures: cumulative counters as read, and the counts between two polls.

Raw counters only. A rate or an extrapolated increase would break the gates' guarantee.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Arm(StrEnum):
    CANDIDATE = "candidate"
    STABLE = "stable"


@dataclass(frozen=True)
class Counters:
    """One arm's cumulative counters since its server or proxy started.

    `requests` counts what has ended: answered, refused, reset or timed out. `failures`
    are those among them that were not an answer: 4xx, 5xx, timeout, reset, refused.
    `durations` holds (upper bound in seconds, requests at or below it), ascending, cumulative.
    """

    requests: int
    failures: int
    durations: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Reading:
    """Both arms' counters at one moment, all from one source.

    `epoch` names the counters' life: when it changes (the proxy was restarted), the
    counters began anew and no difference may be taken across it.
    """

    at_s: float
    epoch: str
    arms: Mapping[Arm, Counters]


@dataclass(frozen=True)
class ArmCounts:
    """One arm's counts between two polls; `within` counts requests per duration bound."""

    requests: int
    failures: int
    within: tuple[int, ...] = ()


@dataclass(frozen=True)
class Poll:
    """The counts of both arms between two readings, at one constant weight.

    weight: the candidate's intended share of the requests, in (0, 1]. 1 means that stable
        had no traffic: no bet between two arms can be made.
    bounds_s: the duration bounds that `ArmCounts.within` counts, ascending.
    """

    weight: float
    candidate: ArmCounts
    stable: ArmCounts
    bounds_s: tuple[float, ...] = ()


class CountersReset(Exception):
    """The counters began anew between two readings: take the later as the new base."""


def between(before: Reading, after: Reading, weight: float) -> Poll:
    """The counts from `before` to `after`.

    Raises:
        CountersReset: another epoch, or a counter that went down.
    """
    if before.epoch != after.epoch:
        raise CountersReset(f"epoch {before.epoch} became {after.epoch}")
    counts = {arm: _difference(before.arms[arm], after.arms[arm]) for arm in Arm}
    bounds = tuple(bound for bound, _ in after.arms[Arm.STABLE].durations)
    return Poll(weight, counts[Arm.CANDIDATE], counts[Arm.STABLE], bounds)


def _difference(before: Counters, after: Counters) -> ArmCounts:
    # A histogram that has not been filled yet is absent, which differs from a reset.
    earlier = dict(before.durations)
    within = tuple(count - earlier.get(bound, 0) for bound, count in after.durations)
    difference = ArmCounts(after.requests - before.requests, after.failures - before.failures, within)
    if min(difference.requests, difference.failures, *within, 0) < 0:
        raise CountersReset("a counter went down")
    return difference
