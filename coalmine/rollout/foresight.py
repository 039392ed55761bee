"""What a plan's gates will be able to see at a given traffic, before a rollout starts. Pure; seeded.

Simulated rollouts, many at a time: counts are drawn, and the gates' own e-processes bet on them. What
makes it quick: one row of an array is one rollout, and the gates look at growing strides of polls (every
poll at first, then every sixteenth part more), where the real ones look at every poll. Evidence may be
looked at whenever one likes, so that costs a few per cent of time and nothing else. A test holds it against
the real engine.

Foreseen are the gates on requests: errors, latency, predictions. The bounds of the last two are taken to lie
where the gates look for them. What queries, webhooks, labels and people will say, nobody can draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
import numpy.typing as npt

from coalmine.rollout.gates import errors, latency, predictions
from coalmine.rollout.gates.combine import LAST_PROMOTE_E, PROMOTE_E, ROLL_BACK_E, SUSPICION_E
from coalmine.rollout.plan import Plan, RolloutStage, StageKind
from coalmine.rollout_spec import ErrorsSpec, LatencySpec, PredictionsSpec, gate_name
from coalmine.statistics.eprocess import EProcess, Null, Question, TwoArmCounts, with_poll

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Foreseeable = ErrorsSpec | LatencySpec | PredictionsSpec

FOUND = 0.9  # a regression that is found at least so often counts as found
ENOUGH = 0.9  # of good candidates should be promoted within the budgets


@dataclass(frozen=True)
class Runs:
    """Simulated rollouts: of a candidate as good as stable, and of each regression that is tried."""

    good: int = 200
    bad: int = 100


_STRIDE = 1.06
_HISTORY_S = 600.0  # of stable's counts before the rollout; makes the bets better, nothing else
# Excess failure rates that are tried, from hardly visible to total.
_EXCESSES = (0.0003, 0.0006, 0.001, 0.0015, 0.0025, 0.004, 0.006, 0.01, 0.016, 0.025, 0.04, 0.08, 0.2, 1.0)
_NO_LATE_STARTS = 10**9  # regressions are there from the first request on


@dataclass(frozen=True)
class Users:
    """What users do: requests per second, and the share of them that fails on stable.

    chosen: the share of the requests whose users carry the plan's header or cookie (strategy ab).
    """

    requests_per_s: float
    error_rate: float
    chosen: float = 0.1


@dataclass(frozen=True)
class ForeseenStage:
    """Seconds that a good candidate spends in it. slow_s: nine in ten need less. slowest: the gate that is
    convinced last, as a rule; None where no foreseen gate is asked."""

    stage: RolloutStage
    margins: Mapping[str, float]
    median_s: float
    slow_s: float
    slowest: str | None


@dataclass(frozen=True)
class Foreseen:
    """
    promoted: the share of good candidates that is promoted; the others end by `hold_budget_s`, or, `false`
        of them, are rolled back in error.
    median_s, slow_s: of those promoted, from the first stage to the end of the bake; slow: nine in ten.
    smallest_excess: the smallest regression, as a share of the requests, that the gates roll back before the
        bake nine times in ten; None where not even a total failure is found so often.
    worst_failed, worst_excess: failed requests of users, on average, before the rollout ends, by the
        regression of those found that costs most, and which that is.
    not_foreseen: the gates that nobody can draw.
    """

    users: Users
    stages: tuple[ForeseenStage, ...]
    promoted: float
    false: float
    median_s: float
    slow_s: float
    smallest_excess: float | None
    worst_failed: float
    worst_excess: float
    not_foreseen: tuple[str, ...]

    @property
    def too_thin(self) -> bool:
        return self.promoted < ENOUGH


def foresee(plan: Plan, users: Users, seed: int, runs: Runs = Runs()) -> Foreseen:
    """The same arguments give the same forecast."""
    chance = np.random.default_rng(seed)
    gates = [gate for gate in plan.gates if isinstance(gate, Foreseeable)]
    good = _Rollouts(plan, users, gates, np.zeros(runs.good), chance)
    stages = tuple(good.pass_through(stage) for stage in range(len(plan.stages)))
    times = good.seconds[good.going_on] + plan.rollout.bake_s + plan.poll_s
    median_s, slow_s = _median_and_slow(times)

    excesses = np.minimum(_EXCESSES, 1 - users.error_rate)
    bad = _Rollouts(
        plan,
        users,
        [gate for gate in gates if isinstance(gate, ErrorsSpec)],
        np.repeat(excesses, runs.bad),
        chance,
        others=len([gate for gate in gates if not isinstance(gate, ErrorsSpec) and not gate.dry_run]),
    )
    for stage in range(len(plan.stages)):
        bad.pass_through(stage)
    # What a budget ends was not found, only not let through: so it goes to good releases as well.
    found = bad.rolled_back.reshape(len(excesses), runs.bad).mean(axis=1)
    baked = bad.going_on * users.requests_per_s * plan.rollout.bake_s
    failed = ((bad.exposed + baked) * bad.excess).reshape(len(excesses), runs.bad).mean(axis=1)
    # The smallest from which on every larger one is found too.
    missed = np.flatnonzero(found < FOUND)
    smallest = int(missed[-1]) + 1 if len(missed) else 0
    none = smallest == len(excesses)
    dearest = int(failed.argmax()) if none else smallest + int(failed[smallest:].argmax())
    return Foreseen(
        users,
        stages,
        promoted=float(good.going_on.mean()),
        false=float(good.rolled_back.mean()),
        median_s=median_s,
        slow_s=slow_s,
        smallest_excess=None if none else float(excesses[smallest]),
        worst_failed=float(failed[dearest]),
        worst_excess=float(excesses[dearest]),
        not_foreseen=tuple(gate_name(gate) for gate in plan.gates if gate not in gates),
    )


class _Rollouts:
    """Simulated rollouts, one in each row, that pass through the stages together.

    excess: how much more often than on stable requests fail on the candidate, by row.
    others: gates with a stake of 1 that are asked too, and see nothing: they neither hold a bad candidate
        nor accuse it.
    """

    def __init__(
        self,
        plan: Plan,
        users: Users,
        gates: Sequence[Foreseeable],
        excess: Floats,
        chance: np.random.Generator,
        others: int = 0,
    ) -> None:
        self.plan, self.users, self.chance, self.excess = plan, users, chance, excess
        runs = len(excess)
        self.seconds = np.zeros(runs)
        self.exposed = np.zeros(runs)  # requests that users sent to the candidate
        self.going_on = np.ones(runs, bool)
        self.rolled_back = np.zeros(runs, bool)
        self._gates = [_Gate(gate, plan, users, excess) for gate in gates]
        self._stakes = sum(gate.stake for gate in self._gates if not gate.dry_run) + others

    def pass_through(self, number: int) -> ForeseenStage:
        plan = self.plan
        stage = plan.stages[number]
        margins = plan.margins(number, self.users.requests_per_s)
        asked = [gate for gate in self._gates if gate.name in margins]
        for gate in asked:
            gate.enter(margins[gate.name])
        blocking = [gate for gate in asked if not gate.dry_run]
        needed = math.log(LAST_PROMOTE_E if plan.is_last(number) else PROMOTE_E)
        arms = _arms(plan, stage, self.users)
        took = np.full(len(self.excess), math.inf)
        convinced_at = {gate.name: took.copy() for gate in blocking}
        inside = np.flatnonzero(self.going_on)
        for polls, at_s in _looks(plan):
            if not len(inside):
                break
            self._count(asked, inside, arms, polls * plan.poll_s)
            left, back = np.ones(len(inside), bool), np.zeros(len(inside), bool)
            if blocking:
                told = np.array([gate.log_e[Question.ROLL_BACK][inside] for gate in blocking])
                staked = told + np.log([[gate.stake] for gate in blocking])
                mean = np.logaddexp.reduce(staked, axis=0) - math.log(self._stakes)
                back = mean >= math.log(ROLL_BACK_E)
                left &= (told < math.log(SUSPICION_E)).all(axis=0)
            for gate in blocking:
                convinced = gate.log_e[Question.PROMOTE][inside] >= needed
                first = convinced_at[gate.name]
                first[inside] = np.where(convinced, np.minimum(first[inside], at_s), first[inside])
                left &= convinced
            self.rolled_back[inside[back]] = True
            took[inside[left | back]] = at_s
            inside = inside[~(left | back)]
        self.going_on &= np.isfinite(took) & ~self.rolled_back  # inside still: the budget ends it
        self.seconds += np.minimum(took, plan.rollout.hold_budget_s)
        medians = {name: float(np.median(times)) for name, times in convinced_at.items()}
        slowest = max(medians, key=medians.__getitem__) if medians else None
        return ForeseenStage(stage, margins, *_median_and_slow(took[self.going_on]), slowest)

    def _count(self, asked: Sequence[_Gate], inside: Ints, arms: _Arms, seconds: float) -> None:
        candidate = self.chance.poisson(arms.candidate_per_s * seconds, len(inside))
        stable = self.chance.poisson(arms.stable_per_s * seconds, len(inside))
        if arms.seen:
            self.exposed[inside] += candidate
        for gate in asked:
            gate.observe(inside, candidate, stable, arms.weight, self.chance)


@dataclass(frozen=True)
class _Arms:
    """Requests per second on each arm; the weight that bets rest on; whether users see the answers."""

    candidate_per_s: float
    stable_per_s: float
    weight: float
    seen: bool = True


def _arms(plan: Plan, stage: RolloutStage, users: Users) -> _Arms:
    rate = users.requests_per_s
    match stage.kind:
        case StageKind.SHADOW | StageKind.PREVIEW:
            percent = 100 if plan.rollout.shadow is None else plan.rollout.shadow.percent
            copied = rate * percent / 100
            return _Arms(copied, rate, copied / (copied + rate), seen=False)
        case StageKind.USERS:
            return _Arms(rate * users.chosen, rate * (1 - users.chosen), users.chosen)
        case StageKind.WEIGHT | StageKind.BAKE:
            share = stage.weight_percent / 100
            return _Arms(rate * share, rate * (1 - share), share)


def _looks(plan: Plan) -> list[tuple[int, float]]:
    """Polls since the look before, and the seconds since the stage began: its first poll is the base."""
    looks, done = [], 0
    while (1 + done) * plan.poll_s <= plan.rollout.hold_budget_s:
        polls = max(1, int(done * (_STRIDE - 1)))
        done += polls
        looks.append((polls, (1 + done) * plan.poll_s))
    return looks


class _Gate:
    """One gate of all rollouts. Its arrays hold, for each rollout, each counted event."""

    def __init__(self, gate: Foreseeable, plan: Plan, users: Users, excess: Floats) -> None:
        self.name, self.dry_run = gate_name(gate), gate.dry_run
        self.stake = errors.STAKE if isinstance(gate, ErrorsSpec) else 1.0
        self._stable, ratio = _rates(gate, users.error_rate)
        runs, events = len(excess), len(self._stable)
        # Regressions are of the errors alone.
        worse = excess[:, None] if isinstance(gate, ErrorsSpec) else 0.0
        stable = np.broadcast_to(self._stable, (runs, events))
        self._rates = (np.minimum(stable + worse, 1.0), stable)
        self._every = isinstance(gate, PredictionsSpec)  # each event must convince, not their average
        # The whole factor for both arms, which errs on the slow side (coalmine.statistics.comparison).
        self._dispersion = plan.dispersion.get(self.name, 1.0)
        history = users.requests_per_s * _HISTORY_S
        self._requests = np.tile([[0.0], [history]], (1, runs))  # of candidate and stable, (2, runs)
        self._shown = np.stack([np.zeros((runs, events)), history * stable])  # (2, runs, events)
        null = Null(gate.worst_ratio, gate.worst_difference)
        edges = {Question.ROLL_BACK: null, Question.PROMOTE: Null(max(ratio, gate.worst_ratio), 0.0)}
        self._processes = {
            question: EProcess.start(question, edges[question], events, _NO_LATE_STARTS)
            for question in Question
        }
        self._wealth = {question: self._fresh(question) for question in Question}
        self.log_e = {question: np.zeros(runs) for question in Question}

    def enter(self, margin: float) -> None:
        promote = self._processes[Question.PROMOTE]
        null = replace(promote.null, delta=margin)
        self._processes[Question.PROMOTE] = replace(promote, null=null)
        self._wealth[Question.PROMOTE] = self._fresh(Question.PROMOTE)
        self.log_e[Question.PROMOTE][:] = 0.0

    def observe(
        self, rows: Ints, candidate: Ints, stable: Ints, weight: float, chance: np.random.Generator
    ) -> None:
        requests = np.stack([candidate, stable])
        shown = np.stack([_draw(n, p[rows], chance) for n, p in zip(requests, self._rates, strict=True)])
        past = _as_events(self._requests[:, rows], self._shown[:, rows]) / self._dispersion
        worth = _as_events(requests, shown) / self._dispersion
        after = with_poll([self._at(question, rows) for question in Question], worth, weight, past)
        _, runs, events = shown.shape
        for process in after:
            self._wealth[process.question][rows] = np.reshape(process.log_wealth, (runs, events, -1))
            by_event = np.reshape(process.log_e_by_event, (runs, events))
            self.log_e[process.question][rows] = self._together(process.question, by_event)
        self._requests[:, rows] += requests
        self._shown[:, rows] += shown

    def _together(self, question: Question, by_event: Floats) -> Floats:
        together: Floats = np.logaddexp.reduce(by_event, axis=1) - math.log(by_event.shape[1])
        if self._every and question is Question.PROMOTE:
            together = by_event.min(axis=1)
        return together

    def _at(self, question: Question, rows: Ints) -> EProcess:
        wealth = self._wealth[question][rows]
        by_event = wealth.reshape(-1, wealth.shape[-1])
        return replace(self._processes[question], log_wealth=tuple(map(tuple, by_event.tolist())))

    def _fresh(self, question: Question) -> Floats:
        return np.tile(self._processes[question].log_wealth, (self._shown.shape[1], 1, 1))


def _rates(gate: Foreseeable, error_rate: float) -> tuple[Floats, float]:
    """Stable's rate of each event that the gate counts, nested ones after each other; its promote ratio."""
    match gate:
        case ErrorsSpec():
            return np.array([error_rate]), errors.PROMOTE_RATIO
        case LatencySpec():
            return np.array(latency.WANTED_SHARES), latency.PROMOTE_RATIO
        case PredictionsSpec():
            return np.array(predictions.WANTED_SHARES * 2), predictions.PROMOTE_RATIO
        case other:
            assert_never(other)


def _draw(requests: Ints, rates: Floats, chance: np.random.Generator) -> Floats:
    """How many requests showed each event. Who shows one has shown those before it that are more common."""
    drawn, of = np.zeros(rates.shape), requests
    for event in range(rates.shape[1]):
        rate, before = rates[:, event], rates[:, event - 1]
        nested = event > 0 and (rate < before).all()
        of = chance.binomial(of, rate / before) if nested else chance.binomial(requests, rate)
        drawn[:, event] = of
    return drawn


def _as_events(requests: Floats | Ints, shown: Floats) -> TwoArmCounts:
    """All rows as the events of one rollout, each with requests of its own: what is added to them, divided
    by them and multiplied with them goes element by element.

    requests: of candidate and stable, (2, rows). shown: (2, rows, events).
    """
    candidate, stable = np.repeat(requests, shown.shape[2], axis=1)[:, :, None]
    return TwoArmCounts(candidate, stable, *(tuple(arm.ravel()) for arm in shown))


def _median_and_slow(seconds: Floats) -> tuple[float, float]:
    if not len(seconds):
        return math.inf, math.inf
    return float(np.median(seconds)), float(np.quantile(seconds, 0.9))
