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
    `binned` counts requests by bin of the release's reference, for each of its distributions by key; empty
    where nobody asked for it, and in every rollout.
    """

    epoch: str
    scores: tuple[tuple[float, int], ...] = ()
    labels: int = 0
    loss: float = 0.0
    binned: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


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
    cannot tell. `answers` lacks an arm whose servers could not be read; `missing` says why it or
    `pairs` is, and what else nobody counts, in sentences for people.
    `late_s`: the newest of these counts was taken at `at_s`, and the oldest so many seconds before. 0 where
    one proxy counts for both arms and is asked itself.
    """

    at_s: float
    epoch: str
    arms: Mapping[Arm, Counters]
    mirrored: Mapping[Arm, Counters] | None = None
    answers: Mapping[Arm, Answers] = field(default_factory=dict)
    pairs: Pairs | None = None
    missing: tuple[str, ...] = ()
    late_s: float = 0.0


@dataclass(frozen=True)
class ArmCounts:
    """One arm's counts between two polls; `within` counts requests per duration bound."""

    requests: int
    failures: int
    within: tuple[int, ...] = ()


@dataclass(frozen=True)
class AnswerCounts:
    """What one arm's model servers answered between two polls; `within` counts rows per score bound."""

    within: tuple[int, ...] = ()
    labels: int = 0
    loss: float = 0.0
    binned: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class PairCounts:
    compared: int
    different: int


@dataclass(frozen=True)
class Poll:
    """The counts of both arms between two readings, at one constant weight.

    weight: the candidate's intended share of the requests, in [0, 1]. 1 means that stable
        has no traffic, and 0 that the candidate has none: no bet between two arms can be made.
    bounds_s: the duration bounds that `ArmCounts.within` counts, ascending.
    realised: which arm a request came to was not drawn by the weight, so that bets rest on the requests
        that came, and a poll in which an arm had none shows nothing.
    mirrored: the counts hold copies, whose answers nobody saw.
    answers: of the arms whose servers went on counting; a server that was started again is left out.
    unread: the arms whose servers could not be read; missing: why, and why there are no pairs.
    pairs: None where nothing compares the two answers to one request.
    """

    weight: float
    candidate: ArmCounts
    stable: ArmCounts
    bounds_s: tuple[float, ...] = ()
    realised: bool = False
    mirrored: bool = False
    answers: Mapping[Arm, AnswerCounts] = field(default_factory=dict)
    score_bounds: tuple[float, ...] = ()
    unread: tuple[Arm, ...] = ()
    missing: tuple[str, ...] = ()
    pairs: PairCounts | None = None


class Counted(StrEnum):
    """Which requests of a reading are compared, and how they came to their arms."""

    BY_WEIGHT = "by_weight"  # users' requests, each drawn by the weight
    AS_CAME = "as_came"  # users' requests, by who their users are, or counted at two moments
    MIRRORED = "mirrored"  # requests and their copies


class CountersReset(Exception):
    """The counters began anew between two readings: take the later as the new base."""


class NotCounted(Exception):
    """The telemetry does not count what is to be compared; says what."""


def between(before: Reading, after: Reading, weight: float, counted: Counted = Counted.BY_WEIGHT) -> Poll:
    """The counts from `before` to `after`.

    Answers and pairs are counted by others than the proxy, who may begin anew while its counters go on:
    then theirs are left out of this poll, and the proxy's failures still count.

    Raises:
        CountersReset: another epoch, or a counter that went down.
        NotCounted: copies are to be compared, and the proxy does not count them.
    """
    if before.epoch != after.epoch:
        raise CountersReset(f"epoch {before.epoch} became {after.epoch}")
    earlier, later = _requests(before, counted), _requests(after, counted)
    candidate, stable = (_difference(earlier[arm], later[arm]) for arm in Arm)
    return Poll(
        weight=weight,
        candidate=candidate,
        stable=stable,
        bounds_s=tuple(bound for bound, _ in later[Arm.STABLE].durations),
        realised=counted is not Counted.BY_WEIGHT,
        mirrored=counted is Counted.MIRRORED,
        answers=_answers(before, after),
        score_bounds=_score_bounds(after),
        unread=tuple(arm for arm in Arm if arm not in after.answers),
        missing=after.missing,
        pairs=_pairs(before.pairs, after.pairs),
    )


def _requests(reading: Reading, counted: Counted) -> Mapping[Arm, Counters]:
    if counted is not Counted.MIRRORED:
        return reading.arms
    if reading.mirrored is None:
        raise NotCounted("the proxy does not count mirrored requests")
    return reading.mirrored


def _difference(before: Counters, after: Counters) -> ArmCounts:
    difference = ArmCounts(
        after.requests - before.requests,
        after.failures - before.failures,
        _grown(before.durations, after.durations),
    )
    if min(difference.requests, difference.failures, *difference.within, 0) < 0:
        raise CountersReset("a counter went down")
    return difference


def _grown(before: tuple[tuple[float, int], ...], after: tuple[tuple[float, int], ...]) -> tuple[int, ...]:
    # A histogram that has not been filled yet is absent, which differs from a reset.
    earlier = dict(before)
    return tuple(count - earlier.get(bound, 0) for bound, count in after)


def _answers(before: Reading, after: Reading) -> dict[Arm, AnswerCounts]:
    known = (arm for arm in Arm if arm in before.answers and arm in after.answers)
    counts = ((arm, answered(before.answers[arm], after.answers[arm])) for arm in known)
    return {arm: counted for arm, counted in counts if counted is not None}


def answered(before: Answers, after: Answers) -> AnswerCounts | None:
    """What was counted between the two; None across a restart: what the server counted before it died is not
    known to the end."""
    if any(len(before.binned.get(key, rows)) != len(rows) for key, rows in after.binned.items()):
        return None
    counts = AnswerCounts(
        _grown(before.scores, after.scores),
        after.labels - before.labels,
        after.loss - before.loss,
        {key: _grown_bins(before.binned.get(key, ()), rows) for key, rows in after.binned.items()},
    )
    bins = (count for rows in counts.binned.values() for count in rows)
    anew = before.epoch != after.epoch or min(counts.labels, counts.loss, *counts.within, *bins, 0) < 0
    return None if anew else counts


def _grown_bins(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(now - earlier for earlier, now in zip(before or (0,) * len(after), after, strict=True))


def _score_bounds(reading: Reading) -> tuple[float, ...]:
    """The bounds by which both arms count; none where they count by others, and cannot be compared."""
    bounds = {tuple(bound for bound, _ in answers.scores) for answers in reading.answers.values()}
    return bounds.pop() if len(bounds) == 1 else ()


def _pairs(before: Pairs | None, after: Pairs | None) -> PairCounts | None:
    if before is None or after is None:
        return None
    counts = PairCounts(after.compared - before.compared, after.different - before.different)
    anew = before.epoch != after.epoch or min(counts.compared, counts.different) < 0
    return PairCounts(0, 0) if anew else counts
