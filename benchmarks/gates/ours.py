"""coalmine's side: the real `engine.decide` with the real gates, over simulated readings.

Nothing stands in for the tool but the world: what the proxy and the model servers would count is drawn,
the route does at once what is asked, and the candidate is ready at the start. A tick every `poll_s`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, ndtr, ndtri

from benchmarks.gates.outcome import Outcome, promoted, rolled_back, undecided
from benchmarks.gates.traffic import HORIZON_S, Traffic, Window
from benchmarks.gates.worlds import World
from coalmine.rollout import engine
from coalmine.rollout.decision import Observation
from coalmine.rollout.evidence import Answers, Arm, Counters, Reading
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import SlotHealth, SlotStatus
from coalmine.rollout.state import Phase, RolloutState
from coalmine.rollout.state import Traffic as CountedTraffic
from coalmine.rollout_spec import (
    ErrorsSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    Rollout,
    Shadow,
)
from coalmine.slots import Slot
from coalmine.statistics.dispersion import dispersion

DEFAULTS = Rollout()
WITH_SHADOW = Rollout(shadow=Shadow())
ONE_GATE = Rollout(gates=(ErrorsSpec(),))
FOUR_GATES = Rollout(gates=(ErrorsSpec(), LatencySpec(), PredictionsSpec(), QualitySpec()))
PREDICTIONS = Rollout(gates=(ErrorsSpec(), LatencySpec(), PredictionsSpec()))

# What stable's earlier rollouts left: half an hour of polls.
HISTORY_S = 1_800.0

# Envoy's bounds as coalmine sets them (coalmine.telemetry), and the model server's for probabilities.
_BOUNDS_MS = (
    *(1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750),
    *(1000, 1500, 2000, 3000, 5000, 10000),
)
DURATION_BOUNDS_S = tuple(ms / 1000 for ms in _BOUNDS_MS)
SCORE_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 21))
_SCORE_CONCENTRATION = 8.0

# Every other answer gets its label by the next poll; a tenth of the answers is wrong, on both arms.
_LABELLED, _LOSS = 0.5, 0.1

_CANDIDATE = Slot.GREEN
_READY = SlotStatus(SlotHealth.READY)


@dataclass(frozen=True)
class Coalmine:
    """history_s: how long users were on stable before, and were counted."""

    name: str
    rollout: Rollout = DEFAULTS
    history_s: float = HISTORY_S

    def run(self, traffic: Traffic) -> Outcome:
        plan, state, counted = self._before(traffic)
        while traffic.now_s < HORIZON_S:
            seen = Observation(engine.wanted_split(plan, state), _READY, counted.reading(traffic.now_s))
            state = engine.decide(plan, state, seen, traffic.now_s).state
            if state.phase is Phase.PROMOTING:
                return promoted(traffic)
            if state.phase is Phase.ROLLING_BACK:
                by_budget = state.reason.startswith(("still undecided", "nothing could be measured"))
                return undecided(traffic) if by_budget else rolled_back(traffic)
            split = engine.wanted_split(plan, state)
            if split.mirror_percent:
                counted.add_mirrored(traffic.mirror(plan.poll_s))
            else:
                counted.add(traffic.advance(plan.poll_s, split.weights[_CANDIDATE] / 100))
        return undecided(traffic)

    def _before(self, traffic: Traffic) -> tuple[Plan, RolloutState, Counted]:
        """Everything as it is when the candidate has become ready."""
        poll_s = self.rollout.poll_s
        requests, failures = traffic.history(round(self.history_s / poll_s), poll_s)
        factor = dispersion(requests.tolist(), failures.tolist()).factor
        plan = Plan.of(self.rollout, dispersion={"errors": factor})
        counts_answers = any(isinstance(gate, PredictionsSpec) for gate in self.rollout.gates)
        counted = Counted(traffic.world, traffic.rng, counts_answers=counts_answers)
        counted.add(Window(0, 0, int(requests.sum()), int(failures.sum())))
        state = RolloutState.begin(_CANDIDATE, has_stable=True, now_s=0.0)
        recent = CountedTraffic(int(requests[-15:].sum()), 15 * poll_s)
        return plan, replace(state, traffic=recent), counted


class Counted:
    """The cumulative counters of the proxy and of the model servers, both arms'."""

    def __init__(self, world: World, rng: np.random.Generator, *, counts_answers: bool) -> None:
        self._rng, self._counts_answers = rng, counts_answers
        self._users = {arm: _Arm() for arm in Arm}
        self._mirrored = {arm: _Arm() for arm in Arm}
        self._durations = dict(zip(Arm, (_durations(world, slow=True), _durations(world)), strict=True))
        self._scores = {Arm.CANDIDATE: _scores(world.candidate_score), Arm.STABLE: _scores(world.score)}

    def add(self, window: Window) -> None:
        self._add(self._users, window)
        self._add_answers(window)

    def add_mirrored(self, window: Window) -> None:
        """Users on stable, and a copy of each of their requests on the candidate."""
        self._add(self._users, replace(window, candidate=0, candidate_failed=0))
        self._add(self._mirrored, window)
        self._add_answers(window)

    def reading(self, at_s: float) -> Reading:
        arms = {arm: counted.counters() for arm, counted in self._users.items()}
        mirrored = {arm: counted.counters() for arm, counted in self._mirrored.items()}
        answers = {arm: counted.answers() for arm, counted in self._users.items()}
        return Reading(at_s, "", arms, mirrored, answers if self._counts_answers else {})

    def _add(self, arms: dict[Arm, _Arm], window: Window) -> None:
        for arm, requests, failed in _by_arm(window):
            if requests:
                arms[arm].requests += requests
                arms[arm].failures += failed
                arms[arm].within += self._rng.multinomial(requests, self._durations[arm]).cumsum()

    def _add_answers(self, window: Window) -> None:
        if not self._counts_answers:
            return
        for arm, requests, failed in _by_arm(window):
            counted, answered = self._users[arm], requests - failed
            if answered:
                counted.scores += self._rng.multinomial(answered, self._scores[arm]).cumsum()
                labels = int(self._rng.binomial(answered, _LABELLED))
                counted.labels += labels
                counted.loss += int(self._rng.binomial(labels, _LOSS))


class _Arm:
    def __init__(self) -> None:
        self.requests = self.failures = self.labels = self.loss = 0
        self.within = np.zeros(len(DURATION_BOUNDS_S) + 1, dtype=np.int64)
        self.scores = np.zeros(len(SCORE_BOUNDS), dtype=np.int64)

    def counters(self) -> Counters:
        durations = tuple(zip((*DURATION_BOUNDS_S, math.inf), self.within.tolist(), strict=True))
        return Counters(self.requests, self.failures, durations)

    def answers(self) -> Answers:
        scores = tuple(zip(SCORE_BOUNDS, self.scores.tolist(), strict=True))
        return Answers("", scores, self.labels, float(self.loss))


def _by_arm(window: Window) -> tuple[tuple[Arm, int, int], ...]:
    return (
        (Arm.CANDIDATE, window.candidate, window.candidate_failed),
        (Arm.STABLE, window.stable, window.stable_failed),
    )


def _durations(world: World, *, slow: bool = False) -> npt.NDArray[np.float64]:
    """The shares of the durations in each bucket, the last beyond all bounds."""
    bounds = np.array(DURATION_BOUNDS_S)
    slowdown = world.slowdown if slow else None
    if slowdown is not None and not slowdown.is_tail_only:
        bounds = bounds / slowdown.factor
    if slowdown is not None and slowdown.is_tail_only:
        slowest_tenth, hundredth = (
            world.median_s * math.exp(world.spread * float(ndtri(q))) for q in (0.9, 0.99)
        )
        power = 1 + math.log(slowdown.factor) / math.log(hundredth / slowest_tenth)
        stretched = slowest_tenth * (bounds / slowest_tenth) ** (1 / power)
        bounds = np.where(bounds > slowest_tenth, stretched, bounds)
    return _shares([*ndtr(np.log(bounds / world.median_s) / world.spread), 1.0])


def _scores(mean: float) -> npt.NDArray[np.float64]:
    """The shares of the scores in each bucket, of a Beta distribution."""
    a, b = mean * _SCORE_CONCENTRATION, (1 - mean) * _SCORE_CONCENTRATION
    return _shares(betainc(a, b, SCORE_BOUNDS).tolist())


def _shares(within: list[float]) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = np.diff(within, prepend=0.0)
    return shares
