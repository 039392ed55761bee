"""The latency gate: the candidate must not be slower than stable.

Durations come as counts below bounds, so slowness is compared as the share of requests slower
than a bound, at several bounds from the middle of stable's durations to their tail; the evidence
is averaged over them. To roll back, any one bound may carry the average. To promote, the average
says that the candidate is not slower by more than the margin throughout, not at each bound alone.

An answer that never came has no duration: that is the errors gate's matter.

The bake is not compared: with all the users on the candidate its servers carry another load than
stable's did, at another time, and the same model would look slower. What it showed before stays.

Nor is a difference that no user notices: a model that answers in one millisecond instead of two is
no reason for anything, and at such times the machine's other work and a cold cache are what differs.

A stage's bounds are chosen before its first bet, from stable's counts so far: those of this
rollout; while they are few, those of the history; while neither is enough, polls are counted and
nothing is bet on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from coalmine.rollout.evidence import ArmCounts, Counters, Poll
from coalmine.rollout.gates import GateReading, bet
from coalmine.rollout.gates.bounds import ENOUGH, nearest
from coalmine.rollout_spec import LatencySpec
from coalmine.statistics.comparison import Comparison
from coalmine.statistics.eprocess import Null, TwoArmCounts

_USUAL = LatencySpec()
ROLL_BACK = Null(_USUAL.worst_ratio, _USUAL.worst_difference)
PROMOTE_RATIO = 1.5

ALL = 1.0  # the candidate's weight in the bake

# The shares of slower requests that the bounds should have, about evenly spread in log-odds.
WANTED_SHARES = (0.5, 0.2, 0.08, 0.03, 0.01, 0.003)


@dataclass(frozen=True)
class LatencyGate:
    """One e-process for each wanted share; it bets on the bound nearest to that share.

    known_bounds_s: the finite bounds that the polls count, ascending.
    slower, history: requests slower than each known bound, in this rollout and before it.
    bounds: for each e-process the index of its known bound; empty until chosen.
    fast_s: an answer within it counts as fast, however fast stable is.
    """

    comparison: Comparison
    known_bounds_s: tuple[float, ...]
    slower: TwoArmCounts
    history: TwoArmCounts
    bounds: tuple[int, ...] = ()
    fast_s: float = 0.0
    name: str = "latency"

    @classmethod
    def start(
        cls,
        roll_back: Null = ROLL_BACK,
        promote_ratio: float = PROMOTE_RATIO,
        history: Counters | None = None,
        polls_per_start: int = 30,
        fast_s: float = 0.0,
        dispersion: float = 1.0,
        name: str = "latency",
    ) -> Self:
        """The gate before its first stage.

        roll_back: how much worse than stable the candidate may be before it is rolled back.
        history: what stable counted before the rollout; makes the gate faster, never laxer.
        polls_per_start: the polls in a minute; a fault that starts late is looked for afresh
            from each.
        dispersion: how many requests are worth one independent one.
        """
        known = history or Counters(0, 0)
        bounds_s = tuple(bound_s for bound_s, _ in known.durations)
        within = tuple(count for _, count in known.durations)
        requests, slower = _slower(ArmCounts(known.requests, known.failures, within), bounds_s)
        return cls(
            Comparison.start(
                roll_back, promote_ratio, _nothing(len(WANTED_SHARES)), polls_per_start, dispersion
            ),
            _finite(bounds_s),
            _nothing(len(slower)),
            TwoArmCounts(0, requests, (0,) * len(slower), slower),
            fast_s=fast_s,
            name=name,
        )

    def for_stage(self, margin: float) -> Self:
        return replace(self, comparison=self.comparison.for_stage(margin))._with_bounds_chosen()

    def observe(self, poll: Poll) -> Self:
        finite = _finite(poll.bounds_s)
        if not finite or poll.weight >= ALL:
            return self
        gate = self if finite == self.known_bounds_s else self._counting_anew(finite)
        gate = gate if gate.bounds else gate._with_bounds_chosen()
        counts = _counts(poll)
        counted = replace(gate, slower=gate.slower + counts)
        if not gate.bounds:
            return counted
        bet_on = _at(counts, gate.bounds)
        return replace(counted, comparison=bet(gate.comparison, bet_on, poll))

    def reading(self) -> GateReading:
        by_event = self.comparison.roll_back.log_e_by_event
        slowest = by_event.index(max(by_event))
        return GateReading(
            self.name,
            self.comparison.log_e_roll_back,
            self.comparison.log_e_promote,
            self.comparison.rollout.candidate_rate(slowest),
            self.comparison.rollout.stable_rate(slowest),
            self._sentence(slowest),
        )

    def _with_bounds_chosen(self) -> Self:
        enough = self.slower.stable_requests >= ENOUGH
        known = self.slower if enough else self.history
        if known.stable_requests < ENOUGH:
            return self
        bounds = nearest(known.stable_requests, known.stable, WANTED_SHARES, self._first())
        comparison = self.comparison.with_events(_at(self.slower, bounds), _at(self.history, bounds))
        return replace(self, comparison=comparison, bounds=bounds)

    def _first(self) -> int:
        """The first bound that may tell anything: below it, whatever is slower is fast all the same."""
        last = len(self.known_bounds_s) - 1
        return next((i for i, bound_s in enumerate(self.known_bounds_s) if bound_s >= self.fast_s), last)

    def _counting_anew(self, bounds_s: tuple[float, ...]) -> Self:
        """For polls that count other bounds than before, as after a change of the proxy."""
        nothing = _nothing(len(bounds_s))
        return replace(self, known_bounds_s=bounds_s, slower=nothing, history=nothing, bounds=())

    def _sentence(self, event: int) -> str:
        candidate = self.comparison.rollout.candidate_rate(event)
        stable = self.comparison.rollout.stable_rate(event)
        if not self.bounds or stable is None:
            return "too few requests on stable yet to know its usual durations"
        bound = _in_words(self.known_bounds_s[self.bounds[event]])
        if candidate is None:
            return f"slower than {bound}: {100 * stable:.1f} % on stable, no requests on the candidate yet"
        return (
            f"slower than {bound}: {100 * candidate:.1f} % on the candidate, {100 * stable:.1f} % on stable"
        )


def _counts(poll: Poll) -> TwoArmCounts:
    candidate_requests, candidate = _slower(poll.candidate, poll.bounds_s)
    stable_requests, stable = _slower(poll.stable, poll.bounds_s)
    return TwoArmCounts(candidate_requests, stable_requests, candidate, stable)


def _slower(arm: ArmCounts, bounds_s: tuple[float, ...]) -> tuple[int, tuple[int, ...]]:
    """The arm's requests with a duration, and how many of them were slower than each finite bound."""
    finite = len(_finite(bounds_s))
    if len(arm.within) != len(bounds_s):  # no durations of this arm
        return 0, (0,) * finite
    # Where the histogram has its own total (the bound at infinity), shares are taken of that: the
    # counter of requests may have been read a moment before or after.
    requests = arm.within[-1] if finite < len(bounds_s) else arm.requests
    return requests, tuple(max(0, requests - count) for count in arm.within[:finite])


def _finite(bounds_s: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(bound_s for bound_s in bounds_s if math.isfinite(bound_s))


def _nothing(events: int) -> TwoArmCounts:
    return TwoArmCounts(0, 0, (0,) * events, (0,) * events)


def _at(counts: TwoArmCounts, events: tuple[int, ...]) -> TwoArmCounts:
    return replace(
        counts,
        candidate=tuple(counts.candidate[event] for event in events),
        stable=tuple(counts.stable[event] for event in events),
    )


def _in_words(bound_s: float) -> str:
    return f"{bound_s:g} s" if bound_s >= 1 else f"{bound_s * 1000:g} ms"
