"""One tick's counts before the gates: which requests are compared, and whether they may be. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from coalmine.rollout.decision import Decision, Measured, Observation
from coalmine.rollout.evidence import Counted, Poll, Reading, between
from coalmine.rollout.gates import Gate, GateReading
from coalmine.rollout.gates.checks import CheckGate
from coalmine.rollout.gates.combine import judged
from coalmine.rollout.plan import BAKE, Plan, RolloutStage, StageKind
from coalmine.rollout.ports import CheckResult
from coalmine.rollout.state import Phase, RolloutState, Routed, Traffic
from coalmine.rollout_spec import gate_name
from coalmine.statistics import sample_ratio

SKEWED_E = 1000.0
SKEWED_FOR_S = 30.0  # the longest that users stay on an arm that cannot be measured


def stage_of(plan: Plan, state: RolloutState) -> RolloutStage:
    """The stage that `state` is in, while it progresses or bakes."""
    return BAKE if state.phase is Phase.BAKING else plan.stages[state.stage]


def poll_of(plan: Plan, state: RolloutState, reading: Reading) -> Poll:
    """The counts since the state's base.

    Raises:
        CountersReset, NotCounted: as `evidence.between`.
    """
    assert state.base is not None
    stage = stage_of(plan, state)
    if stage.kind is StageKind.SHADOW:
        return between(state.base, reading, 0.5, Counted.MIRRORED)
    weight = stage.weight_percent / 100
    # Each arm counted from a moment of its own to another: how many came to each is not the weight's doing.
    apart = 0 < weight < 1 and _late_s(state.base, reading) > 0
    counted = Counted.BY_WEIGHT if _is_drawn(plan, state) and not apart else Counted.AS_CAME
    return between(state.base, reading, weight, counted)


def _is_drawn(plan: Plan, state: RolloutState) -> bool:
    """Whether it was drawn by the stage's weight alone, request by request, who went where since the base."""
    stage = stage_of(plan, state)
    if stage.kind in (StageKind.SHADOW, StageKind.USERS) or state.straddles:
        return False
    return stage.kind is not StageKind.WEIGHT or plan.rollout.sticky is None


def _late_s(before: Reading, after: Reading) -> float:
    """For how long the counts between the two are of one arm and not yet, or no longer, of the other."""
    return before.late_s + after.late_s


def _begins_before(state: RolloutState) -> bool:
    """Whether some of the requests since the base may have come before the stage's weight was set."""
    assert state.base is not None
    return state.base.late_s > 0 and state.base.at_s - state.base.late_s < state.entered_at_s


def measure(plan: Plan, decision: Decision, seen: Observation, poll: Poll, now_s: float) -> Decision:
    """Show `poll` to the gates that this stage asks, unless they are frozen."""
    state = _routed(plan, decision.state, seen, poll, now_s)
    assert isinstance(seen.reading, Reading)
    assert state.base is not None
    stage = stage_of(plan, state)
    asked = plan.asked(stage)
    frozen = state.skewed_since_s is not None
    gates = tuple(
        gate if frozen or gate.name not in asked else _shown(gate, poll, seen.checks.get(gate.name))
        for gate in state.gates
    )
    last = state.phase is Phase.BAKING or plan.is_last(state.stage)
    readings = judged(_readings(plan, gates, asked), last)
    baking = state.phase is Phase.BAKING
    measured = Measured(
        sequence=state.polls,
        at_s=now_s,
        stage="bake" if baking else state.stage,
        kind=stage.kind,
        weight_percent=state.weight_percent,
        poll=poll,
        gates=readings,
    )
    seconds = seen.reading.at_s - state.base.at_s
    after = replace(
        state.measuring_from(seen.reading),
        gates=gates,
        polls=state.polls + 1,
        traffic=state.traffic if poll.mirrored else with_poll(state.traffic, poll, seconds),
    )
    return replace(decision, state=after, measured=measured)


def with_poll(traffic: Traffic, poll: Poll, seconds: float) -> Traffic:
    return Traffic(
        traffic.requests + poll.candidate.requests + poll.stable.requests, traffic.seconds + seconds
    )


def _shown(gate: Gate, poll: Poll, result: CheckResult | None) -> Gate:
    if isinstance(gate, CheckGate):
        return gate if result is None else gate.look(result.verdict, result.sentence, result.value)
    return gate.observe(poll)


def _readings(plan: Plan, gates: tuple[Gate, ...], asked: frozenset[str]) -> tuple[GateReading, ...]:
    dry = {gate_name(spec) for spec in plan.gates if spec.dry_run}
    return tuple(
        replace(gate.reading(), asked=gate.name in asked, dry_run=gate.name in dry) for gate in gates
    )


# --- whether requests come by the weight -----------------------------------------------


def _routed(plan: Plan, state: RolloutState, seen: Observation, poll: Poll, now_s: float) -> RolloutState:
    """The stage's requests by arm so far, and since when they have not come by its weight."""
    if not _is_drawn(plan, state) or not 0 < poll.weight < 1 or _begins_before(state):
        return state
    assert isinstance(seen.reading, Reading)
    assert state.base is not None
    routed = Routed(
        state.routed.candidate + poll.candidate.requests,
        state.routed.stable + poll.stable.requests,
        state.routed.seconds + seen.reading.at_s - state.base.at_s,
    )
    if not is_skewed(routed, poll.weight, plan.timeout_s + _late_s(state.base, seen.reading)):
        return replace(state, routed=routed, skewed_since_s=None)
    since_s = now_s if state.skewed_since_s is None else state.skewed_since_s
    return replace(state, routed=routed, skewed_since_s=since_s)


def is_skewed(routed: Routed, weight: float, late_s: float) -> bool:
    """Whether the requests counted at `weight` cannot have come by it.

    late_s: the longest by which the counts of an arm may lag behind those of the other. A request counts
        when it ends, and ends with the model's timeout at the latest; arms that are counted at two moments
        lag by what lies between. So many may be missing on either arm at any moment, without anything
        being wrong with the routing.
    """
    candidate, stable = float(routed.candidate), float(routed.stable)
    if routed.seconds <= 0:
        return False
    under_way = (candidate + stable) / routed.seconds * late_s
    if candidate * (1 - weight) < stable * weight:
        candidate = min(candidate + under_way * weight, stable * weight / (1 - weight))
    else:
        stable = min(stable + under_way * (1 - weight), candidate * (1 - weight) / weight)
    return sample_ratio.log_e(candidate, stable, weight) >= math.log(SKEWED_E)
