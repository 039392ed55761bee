"""E-processes: evidence on two arms' rates that may be looked at after every poll.

An e-process starts at 1 and, while its null hypothesis holds, expects never more than 1:
by Ville's inequality it ever reaches 1/alpha with probability at most alpha. Gates hold one
for each question they ask (roll back? promote?) and multiply each poll's payoff into it.
Bets here, thresholds and verdicts elsewhere (coalmine.rollout.gates).

Sources: Turner, Ly & Grünwald (2024), "Generic E-variables for exact sequential k-sample
tests that allow for optional stopping"; Turner & Grünwald (2022) for half-plane nulls;
Howard, Ramdas, McAuliffe & Sekhon (2021) for mixtures.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from coalmine.errors import SpecError
from coalmine.statistics import saved

Floats = npt.NDArray[np.float64]


class Question(enum.StrEnum):
    ROLL_BACK = "roll_back"  # null: p_candidate <= ratio * p_stable + delta
    PROMOTE = "promote"  # null: p_candidate >= ratio * p_stable + delta


@dataclass(frozen=True)
class Null:
    """The edge of a null hypothesis: p_candidate = ratio * p_stable + delta."""

    ratio: float
    delta: float

    def __post_init__(self) -> None:
        if not (0 < self.ratio < math.inf and 0 <= self.delta < 1):
            raise SpecError(
                f"a gate cannot compare by ratio {self.ratio} and delta {self.delta}: "
                "in the gate's settings, give a ratio above 0 and a delta (or margin) from 0 to below 1"
            )

    def edge(self, stable: Floats) -> Floats:
        return self.ratio * stable + self.delta


@dataclass(frozen=True)
class TwoArmCounts:
    """Both arms' requests, and how many of them showed each counted event.

    `candidate` and `stable` hold one count for each event, in the same order: one for
    failures, several for durations beyond several bounds. A count may be a sum of losses, each in
    [0, 1]: see `EProcess`.
    """

    candidate_requests: float
    stable_requests: float
    candidate: tuple[float, ...]
    stable: tuple[float, ...]

    def __add__(self, other: TwoArmCounts) -> TwoArmCounts:
        return TwoArmCounts(
            self.candidate_requests + other.candidate_requests,
            self.stable_requests + other.stable_requests,
            tuple(a + b for a, b in zip(self.candidate, other.candidate, strict=True)),
            tuple(a + b for a, b in zip(self.stable, other.stable, strict=True)),
        )

    def __truediv__(self, factor: float) -> TwoArmCounts:
        """As many independent requests as these are worth, when each comes with `factor` - 1 like it."""
        return TwoArmCounts(
            self.candidate_requests / factor,
            self.stable_requests / factor,
            tuple(count / factor for count in self.candidate),
            tuple(count / factor for count in self.stable),
        )

    def candidate_rate(self, event: int) -> float | None:
        """The observed rate; None before any request."""
        return self.candidate[event] / self.candidate_requests if self.candidate_requests else None

    def stable_rate(self, event: int) -> float | None:
        """The observed rate; None before any request."""
        return self.stable[event] / self.stable_requests if self.stable_requests else None


# What the candidate's rate is bet to be: times the null's edge, so that small and total failures are both
# found soon; or times stable's rate. A plug-in estimate joins them. The more likely a rate and the more
# users it costs, the larger the share of the wealth that bets on it, the plug-in's last.
_ROLL_BACK_BETS = np.array([1.5, 4.0, 10.0, 40.0])
_ROLL_BACK_SHARES = np.array([1, 4, 4, 2, 1]) / 12
_PROMOTE_BETS = np.array([0.6, 0.85, 1.0, 1.1])
_PROMOTE_SHARES = np.array([1, 2, 4, 1, 1]) / 9

# A fault may start late: this share of the roll-back wealth bets from the first poll, the
# rest joins later, 1 / (j (j + 1)) of it at start j.
_FIRST_SHARE = 0.8
_LATE_SHARE = 1 - _FIRST_SHARE

# A plug-in estimate of the candidate's rate weighs stable's like this many requests.
_PLUG_IN_REQUESTS = 20

# Newton's method squares its error: a relative step this small leaves none that a float can hold.
_SMALL_STEP = 1e-9
_MOST_STEPS = 100  # 7 to 12 are usual


@dataclass(frozen=True)
class EProcess:
    """The evidence against one null, averaged over one e-process for each counted event.

    log_wealth: for each event, the log wealth of each bet, the bet's share included.
    polls_per_start: after so many polls a further part of the late share joins.

    Valid for any base rate, also one that drifts, and for any weight, also one that changes between
    polls, as long as each request is routed at random by that weight. Where the observed split is
    another, nothing is guaranteed: whoever polls must check it.

    Real counts are as good as whole ones. A loss l in [0, 1] in place of a failure: a**l b**(1 - l) is
    convex in l, so it lies below l a + (1 - l) b, whose expectation is the one of a failure that has the
    loss's mean as its rate (Hoeffding 1963, "Probability inequalities for sums of bounded random
    variables"). All counts of a poll divided by a factor of 1 or more: that takes a root of its payoff,
    which by Jensen's inequality expects no more than 1 either.
    """

    question: Question
    null: Null
    log_wealth: tuple[tuple[float, ...], ...]
    polls_per_start: int
    polls: int = 0

    @classmethod
    def start(cls, question: Question, null: Null, events: int = 1, polls_per_start: int = 30) -> Self:
        shares = _first_shares(question)
        return cls(question, null, (tuple(np.log(shares).tolist()),) * events, polls_per_start)

    @property
    def log_e(self) -> float:
        """The log of the mean over the events."""
        by_event = self.log_e_by_event
        return float(np.logaddexp.reduce(by_event)) - math.log(len(by_event))

    @property
    def log_e_by_event(self) -> tuple[float, ...]:
        log_e = np.logaddexp.reduce(np.array(self.log_wealth), axis=1)
        if self.question is Question.ROLL_BACK:
            starts = self.polls // self.polls_per_start
            log_e = np.logaddexp(log_e, math.log(_LATE_SHARE / (starts + 1)))
        return tuple(log_e.tolist())

    def with_poll(self, counts: TwoArmCounts, weight: float, past: TwoArmCounts) -> EProcess:
        """After a poll of both arms.

        weight: the candidate's intended share of the requests, in (0, 1).
        past: everything counted before this poll; the bets are placed on nothing else.
            It may hold stable's history from before the rollout: that changes the power only.
        """
        (after,) = with_poll((self,), counts, weight, past)
        return after

    def with_candidate_poll(
        self, counts: TwoArmCounts, stable_limits: Sequence[float], past: TwoArmCounts
    ) -> EProcess:
        """After a poll in which stable had no traffic: the candidate against a fixed rate.

        stable_limits: for each event, an upper confidence limit of stable's rate, fixed before
            the first of these polls. The guarantee is that of the limit and of the bets together.
        """
        candidate = _bets((self,), past, _stable_rate(past))
        edge = np.broadcast_to(self.null.edge(np.array(stable_limits))[:, None], candidate.shape)
        beyond = candidate > edge if self.question is Question.ROLL_BACK else candidate < edge
        possible = beyond & (edge > 0) & (edge < 1)
        null_candidate = np.where(possible, edge, candidate)
        return self._after(
            _log_payoff(candidate, null_candidate, counts.candidate_requests, counts.candidate)
        )

    def to_json(self) -> dict[str, object]:
        return saved.to_json(self)

    @classmethod
    def from_json(cls, data: dict[str, object]) -> EProcess:
        """Law: `from_json(e.to_json()) == e`."""
        return saved.from_json(EProcess, data)

    def _after(self, log_payoff: Floats) -> EProcess:
        wealth = np.array(self.log_wealth) + log_payoff
        polls = self.polls + 1
        if self.question is Question.ROLL_BACK and polls % self.polls_per_start == 0:
            start = polls // self.polls_per_start
            joining = _LATE_SHARE / (start * (start + 1)) * _ROLL_BACK_SHARES
            wealth = np.logaddexp(wealth, np.log(joining))
        return replace(self, log_wealth=tuple(map(tuple, wealth.tolist())), polls=polls)


def with_poll(
    processes: Sequence[EProcess], counts: TwoArmCounts, weight: float, past: TwoArmCounts
) -> tuple[EProcess, ...]:
    """Each of `processes` after the same poll of both arms: `EProcess.with_poll` of each, in one go."""
    widths = [len(process.log_wealth[0]) for process in processes]
    ratio = np.repeat([process.null.ratio for process in processes], widths)
    delta = np.repeat([process.null.delta for process in processes], widths)
    is_roll_back = np.repeat([process.question is Question.ROLL_BACK for process in processes], widths)
    stable = _stable_rate(past)
    candidate = _bets(processes, past, stable)
    edge = ratio * stable + delta
    outside = np.where(is_roll_back, candidate > edge, candidate < edge)
    # A bet that lies in the null is its own projection and pays nothing.
    nearest = _nearest_on_edge(ratio, delta, candidate, stable, weight)
    null_stable = np.where(outside, nearest, stable)
    null_candidate = np.where(outside, ratio * nearest + delta, candidate)
    payoff = _log_payoff(candidate, null_candidate, counts.candidate_requests, counts.candidate)
    payoff += _log_payoff(stable, null_stable, counts.stable_requests, counts.stable)
    ends = np.cumsum(widths)
    return tuple(
        process._after(payoff[:, end - width : end])
        for process, width, end in zip(processes, widths, ends, strict=True)
    )


def _first_shares(question: Question) -> Floats:
    """What each bet starts with."""
    match question:
        case Question.ROLL_BACK:
            return _FIRST_SHARE * _ROLL_BACK_SHARES
        case Question.PROMOTE:
            return _PROMOTE_SHARES


def _stable_rate(past: TwoArmCounts) -> Floats:
    """Stable's rate to bet on, from the past alone: (events, 1), never 0 nor 1."""
    rate: Floats = (np.array(past.stable, float) + 0.5)[:, None] / (past.stable_requests + 100)
    return rate


def _bets(processes: Sequence[EProcess], past: TwoArmCounts, stable: Floats) -> Floats:
    """The candidate's rates to bet on, from the past alone: (events, bets of all processes)."""
    plug_in = (np.array(past.candidate, float)[:, None] + _PLUG_IN_REQUESTS * stable) / (
        past.candidate_requests + _PLUG_IN_REQUESTS
    )
    bets: list[Floats] = []
    for process in processes:
        match process.question:
            case Question.ROLL_BACK:
                edge = process.null.edge(stable)
                # Halfway to 1 at most: a bet on certain failure would lose all at the first success.
                # An edge at 1 or beyond leaves no rate to bet on but those in the null.
                grid = np.where(edge < 1, np.minimum(_ROLL_BACK_BETS * edge, (1 + edge) / 2), stable)
            case Question.PROMOTE:
                grid = np.minimum(_PROMOTE_BETS * stable, (1 + stable) / 2)
        bets += [grid, plug_in]
    return np.hstack(bets)


def _nearest_on_edge(
    ratio: Floats, delta: Floats, candidate: Floats, stable: Floats, weight: float
) -> Floats:
    """Stable's rate m where the edge (r m + d, m) is nearest to the bet (candidate, stable).

    Nearest by Kullback-Leibler divergence: with that point as the denominator a likelihood ratio
    expects at most 1 anywhere in the null. The divergence is convex in m, so its derivative

        w r (r m + d - candidate) / ((r m + d) (1 - r m - d)) + (1 - w) (m - stable) / (m (1 - m))

    has one root between the two ends, where the edge meets the bet's own rates. Multiplied by both
    (positive) denominators it is a cubic. That falls at first, is not above 0 at m = 0, and falls in
    the end, so all three of its roots are real and the middle one is ours. From the cubic's inflection,
    or from the end that lies nearest to it, Newton's method approaches that root from one side only.
    """
    r, d, w = ratio, delta, weight
    meets_candidate = (candidate - d) / r
    low = np.maximum(np.minimum(stable, meets_candidate), 0)
    high = np.minimum(np.maximum(stable, meets_candidate), (1 - d) / r)
    # w r (r m + d - candidate) m (1 - m)  +  (1 - w) (m - stable) (r m + d) (1 - d - r m)
    gap = d - candidate
    cubic = -w * r * r - (1 - w) * r * r
    square = w * r * (r - gap) + (1 - w) * (r * (1 - 2 * d) + r * r * stable)
    linear = w * r * gap + (1 - w) * (d * (1 - d) - stable * r * (1 - 2 * d))
    constant = -(1 - w) * stable * d * (1 - d)
    root: Floats = np.minimum(np.maximum(-square / (3 * cubic), low), high)
    for _ in range(_MOST_STEPS):
        value = ((cubic * root + square) * root + linear) * root + constant
        slope = (3 * cubic * root + 2 * square) * root + linear
        closer = np.minimum(np.maximum(root - value / slope, low), high)
        done = bool((np.abs(closer - root) <= _SMALL_STEP * closer).all())
        root = closer
        if done:
            break
    return root


def _log_payoff(bet: Floats, null: Floats, requests: float, events: tuple[float, ...]) -> Floats:
    """The log likelihood ratio of a bet against its projection, (events, bets)."""
    shown = np.array(events, float)[:, None]
    log_payoff: Floats = shown * np.log(bet / null) + (requests - shown) * np.log((1 - bet) / (1 - null))
    return log_payoff
