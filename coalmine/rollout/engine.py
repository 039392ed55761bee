"""The rules of a rollout: `decide` is a pure function.

It reads no clock and no socket; `now_s` and what was observed arrive as arguments. The runner
observes, decides, saves the new state (the intent), acts on it, and observes again.

A tick, top-down: what people asked; what the world shows; what the gates say; the next phase.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

from coalmine.rollout.asks import missing_approvals, next_stage, obey
from coalmine.rollout.decision import Decision, Observation, Unmeasured
from coalmine.rollout.events import EventKind
from coalmine.rollout.evidence import ArmCounts, CountersReset, NotCounted, Poll, Reading, between
from coalmine.rollout.gates import Gate, Verdict
from coalmine.rollout.gates.combine import SUSPICION_E, Ruling, ruling
from coalmine.rollout.gates.kinds import fresh
from coalmine.rollout.measuring import SKEWED_FOR_S, measure, poll_of, stage_of, with_poll
from coalmine.rollout.phases import enter, one_sentence, promote, proving, roll_back
from coalmine.rollout.plan import Plan, StageKind
from coalmine.rollout.ports import SlotHealth, SlotStatus, TrafficSplit
from coalmine.rollout.state import Phase, RolloutState, Traffic
from coalmine.rollout_spec import gate_name

# Beyond this share of failures on stable (of so many requests at least) something is wrong with more than
# the candidate: an overloaded machine, a lost database.
SICK_SHARE, SICK_REQUESTS = 0.2, 20
QUIET_S = 30.0  # so long without a request on the candidate is worth a word

_UNREADABLE, _UNMOVED = "The route cannot be read: ", "The users cannot be moved: "


def begin(plan: Plan, state: RolloutState, now_s: float, asked_by: str = "", again: bool = False) -> Decision:
    """The first decision of a rollout, told as its first event.

    again: the same release was turned away here before, and somebody asks for it once more.
    """
    by = f" by {asked_by}" if asked_by else ""
    retried = ", once more after it was turned away" if again else ""
    course = " → ".join([*map(str, plan.stages), f"a bake of {plan.rollout.bake_s:g} s at 100 %"])
    first = "The first release of this model here: there is no stable to compare it with"
    sentence = f"Started{by}{retried}: {course}." if state.has_stable else f"Started{by}{retried}. {first}."
    return Decision(state).then(state, now_s, EventKind.STARTED, sentence)


def decide(plan: Plan, state: RolloutState, seen: Observation, now_s: float) -> Decision:
    """What comes next. Pure; once ended, nothing changes any more."""
    decision = obey(plan, Decision(state), seen.requests, now_s)
    match decision.state.phase:
        case Phase.INSTALLING:
            return _install(plan, decision, seen, now_s)
        case Phase.PROGRESSING | Phase.BAKING:
            return _progress(plan, decision, seen, now_s)
        case Phase.PROMOTING | Phase.ROLLING_BACK | Phase.PROMOTED | Phase.ROLLED_BACK:
            return decision
        case other:
            assert_never(other)


def unrouted(state: RolloutState, why: str, now_s: float) -> Decision:
    """The users could not be moved. Where the route cannot even be read, that was told already."""
    if state.held is not None and state.held.startswith(_UNREADABLE):
        return Decision(state)
    return Decision(state).holding(f"{_UNMOVED}{why}", now_s)


def recorded(state: RolloutState, now_s: float) -> Decision:
    """After the closing commit: the rollout has ended."""
    if state.phase is Phase.PROMOTING:
        ended, kind, sentence = Phase.PROMOTED, EventKind.PROMOTED, "Promoted."
    else:
        ended, kind, sentence = Phase.ROLLED_BACK, EventKind.ROLLED_BACK, f"Rolled back: {state.reason}"
    return Decision(state).then(replace(state, phase=ended, held=None), now_s, kind, sentence)


def unrecorded(state: RolloutState, why: str, now_s: float) -> Decision:
    """The closing commit could not be pushed: it waits."""
    sentence = f"The users are where they should be; the record waits: {why}"
    return Decision(state).holding(sentence, now_s)


def resumed(state: RolloutState) -> Decision:
    """Another runner goes on. Nobody knows what the route did meanwhile: it measures from now on."""
    return Decision(state.measuring_from(None))


def wanted_split(plan: Plan, state: RolloutState) -> TrafficSplit:
    """Where the users belong in `state`."""
    match state.phase:
        case Phase.PROGRESSING | Phase.BAKING:
            return plan.split(stage_of(plan, state), state.candidate)
        case Phase.PROMOTING | Phase.PROMOTED:
            return TrafficSplit.all_to(state.candidate)
        case Phase.INSTALLING | Phase.ROLLING_BACK | Phase.ROLLED_BACK:
            return TrafficSplit.all_to(state.candidate.other)
        case other:
            assert_never(other)


# --- installing ------------------------------------------------------------------------


def _install(plan: Plan, decision: Decision, seen: Observation, now_s: float) -> Decision:
    decision = _count_traffic(decision, seen.reading)
    state, candidate = decision.state, seen.candidate
    if isinstance(candidate, SlotStatus):
        if candidate.health is SlotHealth.FAILED:
            return roll_back(decision, f"the candidate cannot start: {candidate.detail}", now_s)
        if candidate.health is SlotHealth.READY:
            return _candidate_ready(plan, decision, seen, now_s)
    deadline_s = plan.rollout.progress_deadline_s
    if now_s - state.entered_at_s > deadline_s:
        said = candidate.reason if isinstance(candidate, Unmeasured) else candidate.detail
        last = f" (last word: {said})" if said else ""
        return roll_back(decision, f"the candidate was not ready within {deadline_s:g} s{last}", now_s)
    return decision


def _count_traffic(decision: Decision, reading: Reading | Unmeasured) -> Decision:
    """Before the first stage, users are all on stable: their rate sets the first margin."""
    state = decision.state
    if isinstance(reading, Unmeasured):
        return replace(decision, state=state.measuring_from(None))
    traffic = state.traffic
    if state.base is not None:
        try:
            poll = between(state.base, reading, weight=0.0)
            traffic = with_poll(traffic, poll, reading.at_s - state.base.at_s)
        except CountersReset:
            traffic = Traffic()
    return replace(decision, state=replace(state.measuring_from(reading), traffic=traffic))


def _candidate_ready(plan: Plan, decision: Decision, seen: Observation, now_s: float) -> Decision:
    state = decision.state
    if not state.has_stable:
        return promote(decision, "the first release: the candidate is ready", now_s)
    if state.paused:
        return decision.holding("Paused.", now_s)
    if isinstance(seen.reading, Unmeasured):
        held = decision.holding(f"No stage starts unmeasured: {seen.reading.reason}", now_s)
        return _within_budgets(plan, held, now_s)
    if missing_approvals(plan, state):
        return _within_budgets(plan, _awaiting_approval(plan, decision, now_s), now_s)
    ready = f"The candidate is ready. {_what_is_known(plan, state)}"
    told = decision.then(state, now_s, EventKind.CANDIDATE_READY, ready)
    gates = _fresh_gates(plan, seen.reading)
    return enter(plan, replace(told, state=replace(told.state, gates=gates)), 0, now_s)


def _fresh_gates(plan: Plan, before: Reading) -> tuple[Gate, ...]:
    """The gates before any poll; what stable counted `before` sharpens their bets."""
    polls_a_minute = max(1, round(60 / plan.poll_s))
    gates = (
        fresh(spec, before, polls_a_minute, plan.dispersion.get(gate_name(spec), 1.0)) for spec in plan.gates
    )
    return tuple(gate for gate in gates if gate is not None)


def _what_is_known(plan: Plan, state: RolloutState) -> str:
    """What the gates start from, and what they take for granted where there is no history."""
    rate = state.traffic.requests_per_s
    traffic = f"{rate:,.3g} requests per second" if rate else "No traffic seen: the last stage's margins hold"
    if not plan.dispersion:
        return f"{traffic}. No earlier rollout shows how failures come: taken as independent of each other."
    dispersed = {name: factor for name, factor in plan.dispersion.items() if factor > 1}
    if not dispersed:
        return f"{traffic}. Earlier rollouts show no bursts of failures."
    factors = ", ".join(f"{name} {factor:.2g}" for name, factor in dispersed.items())
    return f"{traffic}. Earlier rollouts show bursts, and counts are divided by so much: {factors}."


# --- stages and bake -------------------------------------------------------------------


def _progress(plan: Plan, decision: Decision, seen: Observation, now_s: float) -> Decision:
    if isinstance(seen.candidate, SlotStatus) and seen.candidate.health is SlotHealth.FAILED:
        return roll_back(decision, f"the candidate died: {seen.candidate.detail}", now_s)
    stable = seen.stable
    after = _look(plan, decision, seen, now_s)
    if isinstance(stable, SlotStatus) and stable.health is SlotHealth.FAILED:
        return _staying(decision, after, seen, stable.detail, now_s)
    return after


def _staying(decision: Decision, after: Decision, seen: Observation, why: str, now_s: float) -> Decision:
    """`after`, unless it takes users back to a stable that is dead: they stay where they are answered."""
    if after.state.phase is not Phase.ROLLING_BACK:
        return after
    sentence = f"Stable cannot take the users back ({why}), so they stay where they are answered."
    if after.measured is not None and isinstance(seen.reading, Reading):
        # The poll counts: what the gates saw in it is not to be shown to them again.
        new = after.state
        state = replace(
            decision.state.measuring_from(seen.reading),
            gates=new.gates,
            polls=new.polls,
            traffic=new.traffic,
            measured_at_s=now_s,
        )
        decision = replace(decision, measured=after.measured, state=state)
    return decision.holding(sentence, now_s)


def _look(plan: Plan, decision: Decision, seen: Observation, now_s: float) -> Decision:
    state = decision.state
    obstacle = _obstacle(plan, state, seen)
    if obstacle is not None:
        # Nothing may be concluded from a poll in which the route was not what it should be.
        held = decision.holding(obstacle, now_s)
        return _within_budgets(plan, replace(held, state=held.state.measuring_from(None)), now_s)
    assert isinstance(seen.reading, Reading)
    if state.base is None:
        return _within_budgets(plan, replace(decision, state=state.measuring_from(seen.reading)), now_s)
    try:
        poll = poll_of(plan, state, seen.reading)
    except (CountersReset, NotCounted) as error:
        why = (
            f"The counters began anew ({error}): this poll is dropped."
            if isinstance(error, CountersReset)
            else f"Nothing to compare: {error}."
        )
        held = decision.holding(why, now_s)
        return _within_budgets(plan, replace(held, state=held.state.measuring_from(seen.reading)), now_s)
    return _judge(plan, measure(plan, decision, seen, poll, now_s), poll, now_s)


def _obstacle(plan: Plan, state: RolloutState, seen: Observation) -> str | None:
    """Why this tick's counts cannot be used, if so."""
    if isinstance(seen.split, Unmeasured):
        return f"{_UNREADABLE}{seen.split.reason}"
    wanted = wanted_split(plan, state)
    if seen.split != wanted:
        if state.held is not None and state.held.startswith(_UNMOVED):
            return state.held
        shown, meant = _in_words(seen.split, state), _in_words(wanted, state)
        if state.base is None or state.straddles:
            return f"Waiting for the route: the candidate has {shown}, not yet {meant}."
        return f"Somebody moved the route: the candidate has {shown}, set to {meant} again."
    if isinstance(seen.reading, Unmeasured):
        return f"The telemetry cannot be read: {seen.reading.reason}"
    return None


def _in_words(split: TrafficSplit | None, state: RolloutState) -> str:
    if split is None:
        return "0 %"
    share = f"{split.weights.get(state.candidate, 0)} %"
    copies = f" and {split.mirror_percent} % in copies" if split.mirror_percent else ""
    chosen = " and chosen users" if split.match_to is state.candidate else ""
    return f"{share}{copies}{chosen}"


def _judge(plan: Plan, decision: Decision, poll: Poll, now_s: float) -> Decision:
    state, measured = decision.state, decision.measured
    assert measured is not None
    if state.skewed_since_s is not None:
        return _skewed(decision, now_s)
    baking = state.phase is Phase.BAKING
    judged = ruling(measured.gates, last=baking or plan.is_last(state.stage))
    decision = _dry_runs_told(decision, now_s)
    if judged.verdict is Verdict.FAIL:
        return roll_back(decision, judged.reason, now_s)
    unseen = measured.kind is not StageKind.PREVIEW and poll.candidate.requests == 0
    if not unseen and judged.verdict is not Verdict.ERROR:
        decision = replace(decision, state=replace(decision.state, measured_at_s=now_s))
    if not baking and _is_sick(poll.stable):
        return _within_budgets(plan, _proving_nothing(decision, now_s), now_s)
    if unseen:
        # At a small weight of thin traffic many polls are empty: that is no news yet.
        quiet = _seen_until_s(decision.state, now_s) - decision.state.measured_at_s >= QUIET_S
        why = "No requests reach the candidate." if quiet else decision.state.held
        return _within_budgets(plan, decision.holding(why, now_s), now_s)
    if judged.verdict is Verdict.ERROR:
        return _within_budgets(plan, _unmeasured(decision, judged, now_s), now_s)
    if state.paused:
        return _within_budgets(plan, decision.holding("Paused.", now_s), now_s)
    if baking:
        return _baking(plan, decision, now_s)
    missing = missing_approvals(plan, state)
    if missing and (state.awaiting_approval or judged.verdict is Verdict.PASS):
        return _within_budgets(plan, _awaiting_approval(plan, decision, now_s), now_s)
    decision = decision.holding(None, now_s)
    if judged.verdict is not Verdict.PASS:
        return _within_budgets(plan, decision, now_s)
    return enter(plan, decision, state.stage + 1, now_s)


def _seen_until_s(state: RolloutState, now_s: float) -> float:
    """What has happened since then is not counted yet."""
    base = state.base
    return now_s if base is None or base.late_s == 0 else base.at_s - base.late_s


def _is_sick(stable: ArmCounts) -> bool:
    return stable.requests >= SICK_REQUESTS and stable.failures > SICK_SHARE * stable.requests


def _proving_nothing(decision: Decision, now_s: float) -> Decision:
    """To be no worse than a stable that fails itself is no merit: the stage's proof begins anew.

    What speaks against the candidate stays, since every poll is bet on.
    """
    state = decision.state
    anew = replace(state, gates=proving(state.gates, dict(state.margins)))
    why = (
        f"Stable itself fails more than {SICK_SHARE:.0%} of its requests: nobody else gets the candidate now."
    )
    return replace(decision, state=anew).holding(why, now_s)


def _unmeasured(decision: Decision, judged: Ruling, now_s: float) -> Decision:
    """Told once for each gate, in its first words: those that follow may differ by a number alone."""
    held, begins = decision.state.held, f"The gate {judged.gate} holds: "
    same = held is not None and held.startswith(begins)
    return decision.holding(held if same else f"{begins}{one_sentence(judged.reason)}", now_s)


def _baking(plan: Plan, decision: Decision, now_s: float) -> Decision:
    decision = decision.holding(None, now_s)
    state, measured = decision.state, decision.measured
    assert measured is not None
    deciding = [reading for reading in measured.gates if not reading.dry_run]
    calm = all(reading.log_e_roll_back < math.log(SUSPICION_E) for reading in deciding)
    checked = all(r.by_evidence or not r.asked or r.verdict is Verdict.PASS for r in deciding)
    baked_s = _seen_until_s(state, now_s) - state.entered_at_s
    if baked_s >= plan.rollout.bake_s and calm and checked:
        return promote(decision, "every gate passed, and the bake", now_s)
    return _within_budgets(plan, decision, now_s)


def _skewed(decision: Decision, now_s: float) -> Decision:
    """Requests do not come by the weight, so nothing may be concluded; users do not stay on such an arm."""
    state = decision.state
    assert state.skewed_since_s is not None
    routed = state.routed
    if now_s - state.skewed_since_s < SKEWED_FOR_S:
        why = f"Every gate is frozen: requests do not come by the {state.weight_percent} % that was set."
        return decision.holding(why, now_s)
    came = f"{routed.candidate:,} of {routed.candidate + routed.stable:,} requests came to the candidate"
    return roll_back(
        decision, f"{came}, set to {state.weight_percent} %: what cannot be counted cannot be compared", now_s
    )


def _dry_runs_told(decision: Decision, now_s: float) -> Decision:
    """Each gate in dry run that would have rolled back is told once."""
    assert decision.measured is not None
    for reading in decision.measured.gates:
        told = decision.state.dry_runs_told
        if reading.dry_run and reading.verdict is Verdict.FAIL and reading.gate not in told:
            state = replace(decision.state, dry_runs_told=(*told, reading.gate))
            sentence = (
                f"{reading.gate} would have rolled back, and is a dry run: {one_sentence(reading.sentence)}"
            )
            decision = decision.then(state, now_s, EventKind.DRY_RUN_FAILED, sentence)
    return decision


def _awaiting_approval(plan: Plan, decision: Decision, now_s: float) -> Decision:
    state = decision.state
    names = " and ".join(missing_approvals(plan, state))
    sentence = f"Waiting for a person: {names} is asked before {next_stage(plan, state)}."
    kind = EventKind.HELD if state.awaiting_approval else EventKind.NEEDS_APPROVAL
    awaiting = replace(decision, state=replace(state, awaiting_approval=True))
    return awaiting.holding(sentence, now_s, kind)


def _within_budgets(plan: Plan, decision: Decision, now_s: float) -> Decision:
    """The same place, unless its time is up."""
    state, rollout = decision.state, plan.rollout
    exposed = state.phase is not Phase.INSTALLING  # an approval may be long in coming before anybody is
    if now_s - state.measured_at_s > rollout.no_data_budget_s and (exposed or not state.awaiting_approval):
        why = state.held or "no requests reached the candidate"
        return roll_back(
            decision, f"nothing could be measured for {rollout.no_data_budget_s:g} s: {why}", now_s
        )
    if not state.paused and now_s - state.entered_at_s > rollout.hold_budget_s:
        what = "nobody approved" if state.awaiting_approval else "still undecided"
        return roll_back(decision, f"{what} after {rollout.hold_budget_s:g} s in one stage", now_s)
    return decision
