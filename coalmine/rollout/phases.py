"""From one phase of a rollout to the next, told as an event. Pure; when to go on, or back, is `engine`'s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from coalmine.rollout.decision import Decision
from coalmine.rollout.events import EventKind
from coalmine.rollout.gates import Gate
from coalmine.rollout.plan import BAKE, Plan, RolloutStage, StageKind
from coalmine.rollout.state import Phase


def enter(plan: Plan, decision: Decision, index: int, now_s: float) -> Decision:
    """The stage at `index` of the plan, or the bake after the last."""
    if index == len(plan.stages):
        return _bake(plan, decision, now_s)
    state, stage = decision.state, plan.stages[index]
    margins = plan.margins(index, state.traffic.requests_per_s)
    entered = state.entering(
        Phase.PROGRESSING,
        now_s,
        stage=index,
        weight_percent=stage.weight_percent,
        margins=tuple(margins.items()),
        gates=proving(state.gates, margins),
    )
    proof = ", ".join(f"{name} {margin:.2%}" for name, margin in margins.items())
    within = f" (margins: {proof})" if proof else ""
    told = f"Stage {index + 1} of {len(plan.stages)}: {_who(plan, stage)}{within}."
    return decision.then(entered, now_s, EventKind.STAGE_STARTED, told)


def proving(gates: tuple[Gate, ...], margins: Mapping[str, float]) -> tuple[Gate, ...]:
    """The gates at the start of their proof that the candidate is within its margins."""
    return tuple(gate.for_stage(margins.get(gate.name, 0.0)) for gate in gates)


def _who(plan: Plan, stage: RolloutStage) -> str:
    """Who gets the candidate in `stage`, for people."""
    rollout = plan.rollout
    match stage.kind:
        case StageKind.SHADOW:
            percent = 0 if rollout.shadow is None else rollout.shadow.percent
            return f"shadow, {percent} % of the requests are copied and nobody sees the candidate's answers"
        case StageKind.PREVIEW:
            return "preview, the candidate is there for testers alone"
        case StageKind.WEIGHT:
            drawn = ", drawn by user" if rollout.sticky is not None else ""
            return f"{stage.weight_percent} % of the users{drawn}"
        case StageKind.USERS:
            assert rollout.users is not None
            users = rollout.users
            where = f"header {users.header}" if users.header else f"cookie {users.cookie}"
            return f"the users with {users.value} in the {where}"
        case StageKind.BAKE:
            return "everybody"
        case other:
            assert_never(other)


def _bake(plan: Plan, decision: Decision, now_s: float) -> Decision:
    state = decision.state
    last = len(plan.stages) - 1
    margins = plan.margins(last, state.traffic.requests_per_s) if plan.stages else {}
    entered = state.entering(
        Phase.BAKING,
        now_s,
        weight_percent=BAKE.weight_percent,
        margins=tuple(margins.items()),
        gates=proving(state.gates, margins),
    )
    bake_s = plan.rollout.bake_s
    told = f"Bake: everybody for {bake_s:g} s; stable stays ready to take them back."
    return decision.then(entered, now_s, EventKind.BAKE_STARTED, told)


def promote(decision: Decision, reason: str, now_s: float) -> Decision:
    entered = decision.state.entering(Phase.PROMOTING, now_s, weight_percent=100, reason=reason)
    return decision.then(entered, now_s, EventKind.PROMOTING, f"Promoting: {one_sentence(reason)}")


def roll_back(decision: Decision, reason: str, now_s: float) -> Decision:
    entered = decision.state.entering(Phase.ROLLING_BACK, now_s, weight_percent=0, reason=reason)
    return decision.then(entered, now_s, EventKind.ROLLING_BACK, f"Rolling back: {one_sentence(reason)}")


def one_sentence(words: str) -> str:
    """With one full stop: some reasons are sentences of others."""
    return f"{words.rstrip('.')}."
