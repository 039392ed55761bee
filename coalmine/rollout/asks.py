"""What people ask of a running rollout, done or refused, and told with who asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from coalmine.rollout.decision import Decision
from coalmine.rollout.events import EventKind
from coalmine.rollout.phases import promote, roll_back
from coalmine.rollout.plan import Plan, RolloutStage
from coalmine.rollout.ports import Ask, Request
from coalmine.rollout.state import Phase, RolloutState


def obey(plan: Plan, decision: Decision, requests: Sequence[Request], now_s: float) -> Decision:
    """The journal gives a request at least once: one that is known from the last time is not done again."""
    known = decision.state.obeyed
    for request in requests:
        if request not in known:
            decision = _obey(plan, decision, request, now_s)
    if not requests:
        return decision
    return replace(decision, state=replace(decision.state, obeyed=tuple(requests)))


def missing_approvals(plan: Plan, state: RolloutState) -> tuple[str, ...]:
    """The approvals without which the next stage must not begin."""
    given = {name for name, _ in state.approvals}
    return tuple(name for name in plan.approvals_before(_next(state)) if name not in given)


def next_stage(plan: Plan, state: RolloutState) -> RolloutStage:
    return plan.stage_at(_next(state))


def _next(state: RolloutState) -> int:
    return 0 if state.phase is Phase.INSTALLING else state.stage + 1


def _obey(plan: Plan, decision: Decision, request: Request, now_s: float) -> Decision:
    state, who = decision.state, request.who
    if not state.phase.deciding:
        late = f"too late, the rollout is {state.phase.replace('_', ' ')}"
        return _refused(decision, request, late, now_s)
    match request.ask:
        case Ask.PAUSE:
            sentence = f"Paused by {who}: no further step; the gates keep watching."
            return decision.then(replace(state, paused=True), now_s, EventKind.PAUSED, sentence)
        case Ask.RESUME:
            # A pause must not eat the stage's budget.
            resumed = replace(state, paused=False, entered_at_s=now_s)
            return decision.then(resumed, now_s, EventKind.RESUMED, f"Resumed by {who}.")
        case Ask.APPROVE:
            return _approve(plan, decision, request, now_s)
        case Ask.ABORT:
            return roll_back(decision, f"aborted by {who}", now_s)
        case Ask.SUPERSEDE:
            return roll_back(decision, f"superseded by a newer release ({who})", now_s)
        case Ask.PROMOTE:
            if state.phase is Phase.INSTALLING:
                return _refused(decision, request, "the candidate is not ready yet", now_s)
            given = {name for name, _ in state.approvals}
            lacking = [name for name in plan.all_approvals() if name not in given]
            unasked = f", without {' and '.join(lacking)}" if lacking else ""
            return promote(decision, f"promoted early by {who}{unasked}", now_s)
        case other:
            assert_never(other)


def _approve(plan: Plan, decision: Decision, request: Request, now_s: float) -> Decision:
    state = decision.state
    missing = () if state.phase is Phase.BAKING else missing_approvals(plan, state)
    if not missing:
        return _refused(decision, request, "the next step waits for no approval", now_s)
    given = (*state.approvals, *((name, request.who) for name in missing))
    sentence = f"Approved by {request.who}: {' and '.join(missing)}, before {next_stage(plan, state)}."
    return decision.then(replace(state, approvals=given), now_s, EventKind.APPROVED, sentence)


def _refused(decision: Decision, request: Request, why: str, now_s: float) -> Decision:
    told = f"{request.who} asked to {request.ask}: {why}."
    return decision.telling(now_s, EventKind.ASK_REFUSED, told)
