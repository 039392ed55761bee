"""Drives one rollout to its end: observe, decide, save, act, again.

The rules stand in `engine`; this module only carries them out. Whatever was saved is the
intent: a runner that starts where another one died makes the saved state true and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coalmine.errors import (
    ReconcilerUnavailable,
    RemoteUnavailable,
    RouteConflict,
    RouterUnavailable,
    TelemetryUnavailable,
)
from coalmine.rollout import engine
from coalmine.rollout.engine import Decision, Measured, Observation, Unmeasured
from coalmine.rollout.evidence import ArmCounts, Reading
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import (
    Clock,
    Journal,
    Reconciler,
    Record,
    SlotStatus,
    Telemetry,
    TrafficRouter,
    TrafficSplit,
)
from coalmine.rollout.state import Phase, RolloutState
from coalmine.slots import Slots


@dataclass(frozen=True)
class Ports:
    router: TrafficRouter
    telemetry: Telemetry
    reconciler: Reconciler
    journal: Journal
    record: Record
    clock: Clock


def run(plan: Plan, slots: Slots, ports: Ports) -> RolloutState:
    """Drive the rollout of `slots.candidate` to its end and return its last state.

    Raises:
        AlreadyRunning: another runner holds this model's route.
        RouteConflict: another controller owns the route.
        ReconcilerUnavailable: the slots could not be handed over at the start.
        RemoteUnavailable: the users are where they should be, but the closing commit could not
            be pushed within the plan's no-data budget; run again to finish.
    """
    with ports.journal.lease():
        state = _resume_or_begin(plan, slots, ports)
        if not state.phase.ended:
            ports.reconciler.reconcile(slots)
        while not state.phase.ended:
            state = step(plan, state, ports)
            if not state.phase.ended:
                ports.clock.sleep(plan.poll_s)
        return state


def finish_record(plan: Plan, ports: Ports) -> RolloutState:
    """End a rollout that has its closing commit; its users are where they stay, and nobody is moved.

    Raises:
        AlreadyRunning: another runner holds this model's route.
        RemoteUnavailable: the closing commit could not be pushed; run again to finish.
    """
    with ports.journal.lease():
        saved = ports.journal.load()
        assert saved is not None
        state = _resumed(saved, ports)
        while not state.phase.ended:
            state = _close(plan, state, ports)
            if not state.phase.ended:
                ports.clock.sleep(plan.poll_s)
        return state


def step(plan: Plan, state: RolloutState, ports: Ports) -> RolloutState:
    """One tick."""
    seen = _observe(state, ports)
    decision = engine.decide(plan, state, seen, ports.clock.now_s())
    _save(decision, ports.journal)
    there = _set_split(decision.state, seen, ports)
    if decision.state.phase in (Phase.PROMOTING, Phase.ROLLING_BACK) and there:
        return _close(plan, decision.state, ports)
    return decision.state


def _resume_or_begin(plan: Plan, slots: Slots, ports: Ports) -> RolloutState:
    saved = ports.journal.load()
    if saved is not None:
        return _resumed(saved, ports)
    assert slots.candidate is not None
    now_s = ports.clock.now_s()
    state = RolloutState.begin(slots.candidate, has_stable=slots.stable is not None, now_s=now_s)
    decision = engine.begin(plan, state, now_s)
    _save(decision, ports.journal)
    return decision.state


def _resumed(saved: Mapping[str, Any], ports: Ports) -> RolloutState:
    _tell(saved["outbox"], ports.journal)
    # Nobody knows what the route did while no runner was there: measure from now on.
    return replace(RolloutState.from_json(saved["state"]), base=None)


def _observe(state: RolloutState, ports: Ports) -> Observation:
    # Asked first: a request that arrives while the ports are read waits for the next tick.
    requests = ports.journal.take_requests()
    return Observation(_split(ports), _candidate(state, ports), _reading(state, ports), requests)


def _split(ports: Ports) -> TrafficSplit | Unmeasured | None:
    try:
        return ports.router.observed_split()
    except (RouterUnavailable, RouteConflict) as error:
        return Unmeasured(str(error))


def _candidate(state: RolloutState, ports: Ports) -> SlotStatus | Unmeasured:
    try:
        return ports.reconciler.status(state.candidate)
    except ReconcilerUnavailable as error:
        return Unmeasured(str(error))


def _reading(state: RolloutState, ports: Ports) -> Reading | Unmeasured:
    try:
        return ports.telemetry.read(state.candidate)
    except TelemetryUnavailable as error:
        return Unmeasured(str(error))


def _save(decision: Decision, journal: Journal) -> None:
    """The intent, and with it what is yet to be told: killed here, the next runner tells it."""
    polls = [] if decision.measured is None else [_poll_to_json(decision.state, decision.measured)]
    outbox = {"events": [event.to_json() for event in decision.events], "polls": polls}
    journal.save({"state": decision.state.to_json(), "outbox": outbox})
    _tell(outbox, journal)


def _tell(outbox: Mapping[str, Sequence[Mapping[str, object]]], journal: Journal) -> None:
    """What was told already has its sequence number there, and is not repeated."""
    for poll in outbox["polls"]:
        journal.append_poll(poll)
    for event in outbox["events"]:
        journal.append_event(event)


def _set_split(state: RolloutState, seen: Observation, ports: Ports) -> bool:
    """Ask for the state's weight where the route shows another. Returns whether the route shows it."""
    if engine.is_at(seen.split, state):
        return True
    if not state.has_stable and state.weight_percent == 0:
        return True  # a first release: there is nobody to send users to yet
    try:
        ports.router.set_split(TrafficSplit.canary(state.candidate, state.weight_percent))
        return engine.is_at(ports.router.observed_split(), state)
    except (RouterUnavailable, RouteConflict):
        return False  # seen again in the next tick, which says so


def _close(plan: Plan, state: RolloutState, ports: Ports) -> RolloutState:
    try:
        if state.phase is Phase.PROMOTING:
            ports.record.promote()
        else:
            ports.record.reject(state.reason)
    except RemoteUnavailable as error:
        now_s = ports.clock.now_s()
        if now_s - state.entered_at_s > plan.no_data_budget_s:
            raise
        held = Decision(state).holding(
            f"The users are where they should be; the record waits: {error}", now_s
        )
        _save(held, ports.journal)
        return held.state
    ended = engine.recorded(state, ports.clock.now_s())
    _save(ended, ports.journal)
    return ended.state


def _poll_to_json(state: RolloutState, measured: Measured) -> dict[str, object]:
    poll = measured.poll
    return {
        "sequence": state.polls - 1,
        "at_s": measured.at_s,
        "stage": measured.stage,
        "weight_percent": round(poll.weight * 100),
        "candidate": _counts_to_json(poll.candidate),
        "stable": _counts_to_json(poll.stable),
        "bounds_s": list(poll.bounds_s),
        "gates": [
            {
                "gate": reading.gate,
                "log_e_roll_back": reading.log_e_roll_back,
                "log_e_promote": reading.log_e_promote,
                "candidate": reading.candidate,
                "stable": reading.stable,
                "sentence": reading.sentence,
            }
            for reading in measured.gates
        ],
    }


def _counts_to_json(counts: ArmCounts) -> dict[str, object]:
    return {"requests": counts.requests, "failures": counts.failures, "within": list(counts.within)}
