"""Drives one rollout to its end: observe, decide, save, act, again.

The rules stand in `engine`; this module only carries them out. Whatever was saved is the
intent: a runner that starts where another one died makes the saved state true and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coalmine.errors import (
    JournalUnavailable,
    ReconcilerUnavailable,
    RemoteUnavailable,
    RouteConflict,
    RouterUnavailable,
    TelemetryUnavailable,
)
from coalmine.rollout import engine
from coalmine.rollout.decision import Decision, Observation, Unmeasured
from coalmine.rollout.evidence import Reading
from coalmine.rollout.measuring import stage_of
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import (
    Asked,
    Check,
    CheckResult,
    Clock,
    Journal,
    Reconciler,
    Record,
    SlotStatus,
    Telemetry,
    TrafficRouter,
    TrafficSplit,
)
from coalmine.rollout.replay import fold
from coalmine.rollout.state import Phase, RolloutState
from coalmine.rollout.ticks import Beginning, Happening, Tick, fingerprint, measured_to_json, tick_to_json
from coalmine.slots import Slot, Slots


@dataclass(frozen=True)
class Ports:
    """checks: by the name of the plan's gate that asks each."""

    router: TrafficRouter
    telemetry: Telemetry
    reconciler: Reconciler
    journal: Journal
    record: Record
    clock: Clock
    checks: Mapping[str, Check] = field(default_factory=dict)


def run(plan: Plan, slots: Slots, ports: Ports, *, asked_by: str = "", again: bool = False) -> RolloutState:
    """Drive the rollout of `slots.candidate` to its end and return its last state.

    asked_by, again: who sends the release, and whether it was turned away here before; told at the start.

    Raises:
        Unsupported: the environment's router cannot do what the plan asks for.
        AlreadyRunning: another runner holds this model's route.
        RouteConflict: another controller owns the route.
        ReconcilerUnavailable: the slots could not be handed over at the start.
        RemoteUnavailable: the users are where they should be, but the closing commit could not
            be pushed within the plan's no-data budget; run again to finish.
        JournalUnavailable: no state could be saved for as long, so that nobody was moved; run again.
    """
    plan.require(ports.router.supports())
    with ports.journal.lease():
        state = _resume_or_begin(plan, slots, ports, asked_by, again)
        if not state.phase.ended:
            ports.reconciler.reconcile(slots)
        return _to_the_end(plan, state, ports, step)


def finish_record(plan: Plan, ports: Ports) -> RolloutState:
    """End a rollout that has its closing commit; its users are where they stay, and nobody is moved.

    Raises:
        AlreadyRunning: another runner holds this model's route.
        RemoteUnavailable: the closing commit could not be pushed; run again to finish.
    """
    with ports.journal.lease():
        saved = ports.journal.load()
        assert saved is not None
        return _to_the_end(plan, _resumed(plan, saved, ports), ports, _close)


def step(plan: Plan, state: RolloutState, ports: Ports) -> RolloutState:
    """One tick."""
    seen = _observe(plan, state, ports)
    state = _take(plan, state, _tick(state, ports, Happening.SEEN, seen=seen), ports)
    try:
        there = _set_split(plan, state, seen, ports)
    except (RouterUnavailable, RouteConflict) as error:
        return _take(plan, state, _tick(state, ports, Happening.UNROUTED, why=str(error)), ports)
    if state.phase in (Phase.PROMOTING, Phase.ROLLING_BACK) and there:
        return _close(plan, state, ports)
    return state


def _to_the_end(
    plan: Plan,
    state: RolloutState,
    ports: Ports,
    tick: Callable[[Plan, RolloutState, Ports], RolloutState],
) -> RolloutState:
    """`tick` until the rollout has ended. One that cannot be saved has not happened: the users stay, and
    the next one looks anew, for as long as the plan does without measurements."""
    unsaved_since_s: float | None = None
    while not state.phase.ended:
        try:
            state = tick(plan, state, ports)
            unsaved_since_s = None
        except JournalUnavailable:
            now_s = ports.clock.now_s()
            unsaved_since_s = unsaved_since_s or now_s
            if now_s - unsaved_since_s > plan.rollout.no_data_budget_s:
                raise
            state = _last_saved(ports.journal)
        if not state.phase.ended:
            ports.clock.sleep(plan.poll_s)
    return state


def _last_saved(journal: Journal) -> RolloutState:
    """A tick that ends a rollout saves twice: what it saved first was done and told."""
    saved = journal.load()
    assert saved is not None
    return RolloutState.from_json(saved["state"])


def _resume_or_begin(plan: Plan, slots: Slots, ports: Ports, asked_by: str, again: bool) -> RolloutState:
    saved = ports.journal.load()
    if saved is not None:
        return _resumed(plan, saved, ports)
    assert slots.candidate is not None
    beginning = Beginning(slots.candidate, slots.stable is not None, asked_by, again)
    return _take(plan, None, _tick(None, ports, Happening.BEGUN, beginning=beginning), ports)


def _resumed(plan: Plan, saved: Mapping[str, Any], ports: Ports) -> RolloutState:
    _tell(saved["outbox"], ports.journal)
    state = RolloutState.from_json(saved["state"])
    if state.phase.ended:
        return state
    return _take(plan, state, _tick(state, ports, Happening.RESUMED), ports)


# --- observe ---------------------------------------------------------------------------


def _observe(plan: Plan, state: RolloutState, ports: Ports) -> Observation:
    # Asked first: a request that arrives while the ports are read waits for the next tick.
    requests = ports.journal.take_requests()
    exposed = state.phase in (Phase.PROGRESSING, Phase.BAKING)
    return Observation(
        split=_split(ports),
        candidate=_status(state.candidate, ports),
        reading=_reading(state, ports),
        requests=requests,
        checks=_checks(plan, state, ports) if exposed else {},
        stable=_status(state.candidate.other, ports) if exposed else None,
    )


def _split(ports: Ports) -> TrafficSplit | Unmeasured | None:
    try:
        return ports.router.observed_split()
    except (RouterUnavailable, RouteConflict) as error:
        return Unmeasured(str(error))


def _status(slot: Slot, ports: Ports) -> SlotStatus | Unmeasured:
    try:
        return ports.reconciler.status(slot)
    except ReconcilerUnavailable as error:
        return Unmeasured(str(error))


def _reading(state: RolloutState, ports: Ports) -> Reading | Unmeasured:
    try:
        return ports.telemetry.read(state.candidate)
    except TelemetryUnavailable as error:
        return Unmeasured(str(error))


def _checks(plan: Plan, state: RolloutState, ports: Ports) -> Mapping[str, CheckResult]:
    stage = stage_of(plan, state)
    names = plan.asked(stage)
    asked = Asked(state.candidate, str(stage), engine.wanted_split(plan, state).weights, ports.clock.now_s())
    return {name: check.look(asked) for name, check in ports.checks.items() if name in names}


# --- decide and save -------------------------------------------------------------------


def _tick(
    state: RolloutState | None,
    ports: Ports,
    what: Happening,
    *,
    beginning: Beginning | None = None,
    seen: Observation | None = None,
    why: str = "",
) -> Tick:
    sequence = 0 if state is None else state.ticks
    return Tick(sequence, ports.clock.now_s(), what, beginning, seen, why)


def _take(plan: Plan, state: RolloutState | None, tick: Tick, ports: Ports) -> RolloutState:
    """Decide on `tick`, and save."""
    decision = fold(plan, state, tick)
    _save(tick, decision, ports.journal)
    return decision.state


def _save(tick: Tick, decision: Decision, journal: Journal) -> None:
    """The intent, and with it what is yet to be told: killed here, the next runner tells it."""
    line = tick_to_json(tick) | {"state": fingerprint(decision.state)}
    if decision.measured is not None:
        line["poll"] = measured_to_json(decision.measured)
    outbox = {"events": [event.to_json() for event in decision.events], "ticks": [line]}
    journal.save({"state": decision.state.to_json(), "outbox": outbox})
    _tell(outbox, journal)


def _tell(outbox: Mapping[str, Sequence[Mapping[str, object]]], journal: Journal) -> None:
    """What was told already has its sequence number there, and is not repeated."""
    for tick in outbox["ticks"]:
        journal.append_tick(tick)
    for event in outbox["events"]:
        journal.append_event(event)


# --- act -------------------------------------------------------------------------------


def _set_split(plan: Plan, state: RolloutState, seen: Observation, ports: Ports) -> bool:
    """Ask for the state's split where the route shows another. Returns whether the route shows it.

    Raises:
        RouterUnavailable, RouteConflict: the users stay where they are.
    """
    wanted = engine.wanted_split(plan, state)
    if seen.split == wanted:
        return True
    if not state.has_stable and state.weight_percent == 0:
        return True  # a first release: there is nobody to send users to yet
    ports.router.set_split(wanted)
    return ports.router.observed_split() == wanted


def _close(plan: Plan, state: RolloutState, ports: Ports) -> RolloutState:
    try:
        if state.phase is Phase.PROMOTING:
            ports.record.promote()
        else:
            ports.record.reject(state.reason)
    except RemoteUnavailable as error:
        if ports.clock.now_s() - state.entered_at_s > plan.rollout.no_data_budget_s:
            raise
        return _take(plan, state, _tick(state, ports, Happening.UNRECORDED, why=str(error)), ports)
    return _take(plan, state, _tick(state, ports, Happening.RECORDED), ports)
