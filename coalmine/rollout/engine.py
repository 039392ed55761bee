"""The rules of a rollout, all of them, and nothing else: `decide` is a pure function.

It reads no clock and no socket; `now_s` and what was observed arrive as arguments. The runner
observes, decides, saves the new state (the intent), acts on it, and observes again.

A tick, top-down: what people asked; what the world shows; what the gates say; the next phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.evidence import Arm, CountersReset, Poll, Reading, between
from coalmine.rollout.gates import GateReading, Verdict
from coalmine.rollout.gates.combine import SUSPICION_E, ruling
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Request, SlotHealth, SlotStatus, TrafficSplit
from coalmine.rollout.state import Phase, RolloutState, Traffic


@dataclass(frozen=True)
class Unmeasured:
    """A port that could not be read, and what it said."""

    reason: str


@dataclass(frozen=True)
class Observation:
    """What the ports showed in one tick."""

    split: TrafficSplit | Unmeasured | None
    candidate: SlotStatus | Unmeasured
    reading: Reading | Unmeasured
    requests: Sequence[Request] = ()


@dataclass(frozen=True)
class Measured:
    """One poll that the gates have seen, as the journal keeps it."""

    at_s: float
    stage: int | str  # the stage's index, or "bake"
    poll: Poll
    gates: tuple[GateReading, ...]


@dataclass(frozen=True)
class Decision:
    """The state to save and make true, what to tell, and what was measured."""

    state: RolloutState
    events: tuple[Event, ...] = ()
    measured: Measured | None = None

    def then(self, state: RolloutState, now_s: float, kind: EventKind, sentence: str) -> Decision:
        """This decision, with `state` next and one more event told about it."""
        event = Event(state.events, now_s, kind, sentence, state.weight_percent)
        return replace(self, state=replace(state, events=state.events + 1), events=(*self.events, event))

    def holding(self, why: str | None, now_s: float) -> Decision:
        """The same place for the reason `why` (None: nothing holds it), told when it changes."""
        state = self.state
        if why == state.held:
            return self
        held = replace(state, held=why)
        if why is None:
            return self.then(held, now_s, EventKind.MEASURED_AGAIN, "Measuring again.")
        return self.then(held, now_s, EventKind.HELD, why)


def begin(plan: Plan, state: RolloutState, now_s: float) -> Decision:
    """The first decision of a rollout, told as its first event."""
    weights = " → ".join(f"{weight} %" for weight in plan.stages)
    course = f"{weights}, then a bake of {plan.bake_s:g} s at 100 %"
    first = "The first release of this model here: there is no stable to compare it with."
    sentence = f"Started: {course}." if state.has_stable else f"Started. {first}"
    return Decision(state).then(state, now_s, EventKind.STARTED, sentence)


def decide(plan: Plan, state: RolloutState, seen: Observation, now_s: float) -> Decision:
    """What comes next. Pure; once ended, nothing changes any more."""
    decision = _obey(Decision(state), seen.requests, now_s)
    match decision.state.phase:
        case Phase.INSTALLING:
            return _install(plan, decision, seen, now_s)
        case Phase.PROGRESSING | Phase.BAKING:
            return _progress(plan, decision, seen, now_s)
        case Phase.PROMOTING | Phase.ROLLING_BACK | Phase.PROMOTED | Phase.ROLLED_BACK:
            return decision
        case other:
            assert_never(other)


def recorded(state: RolloutState, now_s: float) -> Decision:
    """After the closing commit: the rollout has ended."""
    if state.phase is Phase.PROMOTING:
        ended, kind, sentence = Phase.PROMOTED, EventKind.PROMOTED, "Promoted."
    else:
        ended, kind, sentence = Phase.ROLLED_BACK, EventKind.ROLLED_BACK, f"Rolled back: {state.reason}"
    return Decision(state).then(replace(state, phase=ended, held=None), now_s, kind, sentence)


def is_at(split: TrafficSplit | Unmeasured | None, state: RolloutState) -> bool:
    """Whether the data plane does what was asked."""
    if not isinstance(split, TrafficSplit):
        return False
    return split.weights.get(state.candidate, 0) == state.weight_percent


# --- what people asked -----------------------------------------------------------------


def _obey(decision: Decision, requests: Sequence[Request], now_s: float) -> Decision:
    for request in requests:
        decision = _obey_one(decision, request, now_s)
    return decision


def _obey_one(decision: Decision, request: Request, now_s: float) -> Decision:
    state = decision.state
    if not state.phase.deciding:
        told = (
            f"{request.who} asked to {request.ask}: too late, the rollout is {state.phase.replace('_', ' ')}."
        )
        return decision.then(state, now_s, EventKind.ASK_REFUSED, told)
    match request.ask:
        case Ask.PAUSE:
            sentence = f"Paused by {request.who}: no further step; the gates keep watching."
            return decision.then(replace(state, paused=True), now_s, EventKind.PAUSED, sentence)
        case Ask.RESUME:
            # A pause must not eat the stage's budget.
            resumed = replace(state, paused=False, entered_at_s=now_s)
            return decision.then(resumed, now_s, EventKind.RESUMED, f"Resumed by {request.who}.")
        case Ask.ABORT:
            return _roll_back(decision, f"aborted by {request.who}", now_s)
        case Ask.SUPERSEDE:
            return _roll_back(decision, f"superseded by a newer release ({request.who})", now_s)
        case Ask.PROMOTE:
            if state.phase is Phase.INSTALLING:
                told = f"{request.who} asked to promote: the candidate is not ready yet."
                return decision.then(state, now_s, EventKind.ASK_REFUSED, told)
            return _promote(decision, f"promoted early by {request.who}", now_s)
        case other:
            assert_never(other)


# --- installing ------------------------------------------------------------------------


def _install(plan: Plan, decision: Decision, seen: Observation, now_s: float) -> Decision:
    decision = _count_traffic(decision, seen.reading)
    state, candidate = decision.state, seen.candidate
    if isinstance(candidate, SlotStatus):
        if candidate.health is SlotHealth.FAILED:
            return _roll_back(decision, f"the candidate cannot start: {candidate.detail}", now_s)
        if candidate.health is SlotHealth.READY:
            return _candidate_ready(plan, decision, seen, now_s)
    if now_s - state.entered_at_s > plan.progress_deadline_s:
        said = candidate.reason if isinstance(candidate, Unmeasured) else candidate.detail
        last = f" (last word: {said})" if said else ""
        return _roll_back(
            decision, f"the candidate was not ready within {plan.progress_deadline_s:g} s{last}", now_s
        )
    return decision


def _count_traffic(decision: Decision, reading: Reading | Unmeasured) -> Decision:
    """Before the first stage, users are all on stable: their rate sets the first margin."""
    state = decision.state
    if isinstance(reading, Unmeasured):
        return replace(decision, state=replace(state, base=None))
    traffic = state.traffic
    if state.base is not None:
        try:
            poll = between(state.base, reading, weight=1.0)
            traffic = _with_poll(traffic, poll, reading.at_s - state.base.at_s)
        except CountersReset:
            traffic = Traffic()
    return replace(decision, state=replace(state, base=reading, traffic=traffic))


def _candidate_ready(plan: Plan, decision: Decision, seen: Observation, now_s: float) -> Decision:
    state = decision.state
    if not state.has_stable:
        return _promote(decision, "the first release: the candidate is ready", now_s)
    if isinstance(seen.reading, Unmeasured):
        return decision.holding(f"No stage starts unmeasured: {seen.reading.reason}", now_s)
    told = decision.then(state, now_s, EventKind.CANDIDATE_READY, "The candidate is ready.")
    gates = plan.fresh_gates(seen.reading.arms[Arm.STABLE])
    return _enter_stage(plan, told, replace(told.state, gates=gates), 0, now_s)


# --- stages and bake -------------------------------------------------------------------


def _progress(plan: Plan, decision: Decision, seen: Observation, now_s: float) -> Decision:
    state = decision.state
    if isinstance(seen.candidate, SlotStatus) and seen.candidate.health is SlotHealth.FAILED:
        return _roll_back(decision, f"the candidate died: {seen.candidate.detail}", now_s)
    obstacle = _obstacle(state, seen)
    if obstacle is not None:
        # Nothing may be concluded from a poll in which the route was not what it should be.
        held = decision.holding(obstacle, now_s)
        return _within_budgets(plan, replace(held, state=replace(held.state, base=None)), now_s)
    assert isinstance(seen.reading, Reading)
    if state.base is None:
        return _within_budgets(plan, replace(decision, state=replace(state, base=seen.reading)), now_s)
    try:
        poll = between(state.base, seen.reading, state.weight_percent / 100)
    except CountersReset as reset:
        held = decision.holding(f"The counters began anew ({reset}): this poll is dropped.", now_s)
        return _within_budgets(plan, replace(held, state=replace(held.state, base=seen.reading)), now_s)
    return _judge(plan, _measure(decision, poll, seen.reading, now_s), poll, now_s)


def _obstacle(state: RolloutState, seen: Observation) -> str | None:
    """Why this tick's counts cannot be used, if so."""
    if isinstance(seen.split, Unmeasured):
        return f"The route cannot be read: {seen.split.reason}"
    if not is_at(seen.split, state):
        shown = 0 if seen.split is None else seen.split.weights.get(state.candidate, 0)
        if state.base is None:
            return f"Waiting for the route: the candidate has {shown} %, not yet {state.weight_percent} %."
        return (
            f"Somebody moved the route: the candidate has {shown} %, set to {state.weight_percent} % again."
        )
    if isinstance(seen.reading, Unmeasured):
        return f"The telemetry cannot be read: {seen.reading.reason}"
    return None


def _measure(decision: Decision, poll: Poll, reading: Reading, now_s: float) -> Decision:
    """Show `poll` to every gate."""
    state = decision.state
    assert state.base is not None
    gates = tuple(gate.observe(poll) for gate in state.gates)
    has_data = poll.candidate.requests > 0
    measured = replace(
        state,
        base=reading,
        gates=gates,
        polls=state.polls + 1,
        traffic=_with_poll(state.traffic, poll, reading.at_s - state.base.at_s),
        measured_at_s=now_s if has_data else state.measured_at_s,
    )
    stage = "bake" if state.phase is Phase.BAKING else state.stage
    shown = Measured(now_s, stage, poll, tuple(gate.reading() for gate in gates))
    return replace(decision, state=measured, measured=shown)


def _judge(plan: Plan, decision: Decision, poll: Poll, now_s: float) -> Decision:
    state, measured = decision.state, decision.measured
    assert measured is not None
    baking = state.phase is Phase.BAKING
    judged = ruling(measured.gates, last=baking or plan.is_last(state.stage))
    if judged.verdict is Verdict.FAIL:
        return _roll_back(decision, judged.reason, now_s)
    if poll.candidate.requests == 0:
        return _within_budgets(plan, decision.holding("No requests reach the candidate.", now_s), now_s)
    decision = decision.holding("Paused." if state.paused else None, now_s)
    if state.paused:
        return decision
    if baking:
        calm = all(reading.log_e_roll_back < math.log(SUSPICION_E) for reading in measured.gates)
        baked = now_s - state.entered_at_s >= plan.bake_s and calm
        return (
            _promote(decision, "every gate passed, and the bake", now_s)
            if baked
            else _within_budgets(plan, decision, now_s)
        )
    if judged.verdict is not Verdict.PASS:
        return _within_budgets(plan, decision, now_s)
    if plan.is_last(state.stage):
        return _bake(plan, decision, now_s)
    return _enter_stage(plan, decision, decision.state, state.stage + 1, now_s)


def _within_budgets(plan: Plan, decision: Decision, now_s: float) -> Decision:
    """The same place, unless its time is up."""
    state = decision.state
    if now_s - state.measured_at_s > plan.no_data_budget_s:
        why = state.held or "no requests reached the candidate"
        return _roll_back(
            decision, f"nothing could be measured for {plan.no_data_budget_s:g} s: {why}", now_s
        )
    if not state.paused and now_s - state.entered_at_s > plan.hold_budget_s:
        return _roll_back(decision, f"still undecided after {plan.hold_budget_s:g} s in one stage", now_s)
    return decision


def _with_poll(traffic: Traffic, poll: Poll, seconds: float) -> Traffic:
    return Traffic(
        traffic.requests + poll.candidate.requests + poll.stable.requests,
        traffic.seconds + seconds,
    )


# --- the next phase --------------------------------------------------------------------


def _enter_stage(plan: Plan, decision: Decision, state: RolloutState, stage: int, now_s: float) -> Decision:
    margins = plan.margins(stage, state.traffic.requests_per_s)
    weight = plan.stages[stage]
    entered = state.entering(
        Phase.PROGRESSING,
        now_s,
        stage=stage,
        weight_percent=weight,
        gates=tuple(gate.for_stage(margins[gate.name]) for gate in state.gates),
    )
    proof = ", ".join(f"{name} {margin:.2%}" for name, margin in margins.items())
    sentence = f"Stage {stage + 1} of {len(plan.stages)}: {weight} % of the users (margins: {proof})."
    return decision.then(entered, now_s, EventKind.STAGE_STARTED, sentence)


def _bake(plan: Plan, decision: Decision, now_s: float) -> Decision:
    state = decision.state
    margins = plan.margins(state.stage, state.traffic.requests_per_s)
    entered = state.entering(
        Phase.BAKING,
        now_s,
        weight_percent=100,
        gates=tuple(gate.for_stage(margins[gate.name]) for gate in state.gates),
    )
    sentence = f"Bake: everybody for {plan.bake_s:g} s; stable stays ready to take them back."
    return decision.then(entered, now_s, EventKind.BAKE_STARTED, sentence)


def _promote(decision: Decision, reason: str, now_s: float) -> Decision:
    entered = decision.state.entering(Phase.PROMOTING, now_s, weight_percent=100, reason=reason)
    return decision.then(entered, now_s, EventKind.PROMOTING, f"Promoting: {reason}.")


def _roll_back(decision: Decision, reason: str, now_s: float) -> Decision:
    entered = decision.state.entering(Phase.ROLLING_BACK, now_s, weight_percent=0, reason=reason)
    return decision.then(entered, now_s, EventKind.ROLLING_BACK, f"Rolling back: {reason}.")
