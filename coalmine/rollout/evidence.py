"""What a rollout measures: cumulative counters as read, and the counts between two polls.

Raw counters only. A rate or an extrapolated increase would break the gates' guarantee.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
class Answers:
    """What one arm's model servers counted since they started: what they answered, and how right it was.

    `epoch` names these counters' life, as in `Reading`: a server that is started again begins anew, while
    the proxy's counters go on.
    `scores` holds (upper bound, predictions at or below it), ascending, cumulative; by row.
    `labels` counts the requests whose true label came, `loss` sums what they lost, each in [0, 1].
    """

    epoch: str
    scores: tuple[tuple[float, int], ...] = ()
    labels: int = 0
    loss: float = 0.0


@dataclass(frozen=True)
class Pairs:
    """Requests that both arms answered, as in a shadow stage, since `epoch` began: how many were compared,
    and in how many of them the two answers differ by more than the gate's tolerance."""

    epoch: str
    compared: int
    different: int


@dataclass(frozen=True)
class Reading:
    """Both arms' counters at one moment.

    `epoch` names the life of the proxy's counters: when it changes (the proxy was restarted), they began
    anew and no difference may be taken across it.
    `arms` counts what users asked, by the arm that answered them. `mirrored` counts what reached each
    arm while requests are mirrored, copies included, whoever saw the answer; None where the proxy
    cannot tell. `answers` lacks an arm whose servers could not be read.
    """

    at_s: float
    epoch: str
    arms: Mapping[Arm, Counters]
    mirrored: Mapping[Arm, Counters] | None = None
    answers: Mapping[Arm, Answers] = field(default_factory=dict)
    pairs: Pairs | None = None


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
