"""What another plan would have made of a recorded rollout. Pure, and exact as far as it goes.

The ticks are folded with the other plan. What they saw, they saw with the users where the recorded plan
had them; as long as the other plan would have had them in the same place, its decisions are what they
would have been. Where it first wants another place the record ends to be its own: from there on nobody
knows what would have been seen, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from coalmine.rollout import engine
from coalmine.rollout.decision import Observation, Unmeasured
from coalmine.rollout.events import Event
from coalmine.rollout.evidence import Reading
from coalmine.rollout.measuring import stage_of
from coalmine.rollout.plan import Plan
from coalmine.rollout.replay import replay
from coalmine.rollout.state import Phase, RolloutState
from coalmine.rollout.ticks import Happening, Tick
from coalmine.rollout_spec import (
    AgreementSpec,
    PredictionsSpec,
    QualitySpec,
    QuerySpec,
    WebhookSpec,
    gate_name,
)


class Ending(StrEnum):
    DECIDED = "decided"  # the other plan promotes or rolls back, and the record says when and why
    UNKNOWN = "unknown"  # from some moment on the record cannot say
    OPEN = "open"  # the record ends before the other plan has decided


@dataclass(frozen=True)
class WhatIf:
    """
    at_s: when it is decided, or from when on the record cannot say.
    sentence: what is decided, or why the record cannot say.
    events: what the other plan would have told until then.
    """

    ending: Ending
    at_s: float
    sentence: str
    events: tuple[Event, ...]


def what_if(recorded: Plan, other: Plan, ticks: Iterable[Tick]) -> WhatIf:
    """
    other: with the recorded `poll_s`; the moments at which was looked are the record's.

    Raises:
        IntegrityError: some of the ticks are missing.
    """
    kept = list(ticks)
    events: list[Event] = []
    before: tuple[RolloutState, RolloutState] | None = None
    for theirs, ours in zip(replay(recorded, kept), replay(other, kept), strict=True):
        tick = theirs.tick
        if before is not None:
            doubt = _doubt(recorded, other, *before, tick)
            if doubt is not None:
                return WhatIf(Ending.UNKNOWN, tick.at_s, doubt, tuple(events))
        events += ours.decision.events
        state = ours.decision.state
        if not state.phase.deciding:
            return WhatIf(Ending.DECIDED, tick.at_s, _decided(state), tuple(events))
        before = theirs.decision.state, state
    last_s = kept[-1].at_s if kept else 0.0
    return WhatIf(Ending.OPEN, last_s, "the record ends before this plan has decided", tuple(events))


def _decided(state: RolloutState) -> str:
    done = "promoted" if state.phase in (Phase.PROMOTING, Phase.PROMOTED) else "rolled back"
    return f"{done}: {state.reason}"


def _doubt(recorded: Plan, other: Plan, theirs: RolloutState, ours: RolloutState, tick: Tick) -> str | None:
    """Why `tick`, seen in the state `theirs`, does not show what would have been seen in `ours`."""
    if not theirs.phase.deciding:
        return "the recorded rollout was over, and this plan would have gone on"
    if ours.awaiting_approval and not theirs.awaiting_approval:
        return "this plan would wait for an approval, and nobody was asked"
    there, here = engine.wanted_split(recorded, theirs), engine.wanted_split(other, ours)
    if there != here:
        was = _place(recorded, theirs)
        return f"this plan would be in {_place(other, ours)}, and the recorded rollout was in {was}"
    if tick.what is Happening.SEEN and ours.phase in (Phase.PROGRESSING, Phase.BAKING):
        assert tick.seen is not None
        return _unseen(other, ours, tick.seen)
    return None


def _place(plan: Plan, state: RolloutState) -> str:
    match state.phase:
        case Phase.INSTALLING:
            return "the time before the first stage"
        case Phase.PROGRESSING | Phase.BAKING:
            stage = stage_of(plan, state)
            return f"the stage “{stage}”" if state.phase is Phase.PROGRESSING else "the bake"
        case _:
            return f"the phase “{state.phase}”"


def _unseen(plan: Plan, state: RolloutState, seen: Observation) -> str | None:
    """What this plan asks in its stage and the record does not hold, though it holds the tick."""
    if isinstance(seen.reading, Unmeasured):
        return None
    asked = plan.asked(stage_of(plan, state))
    for gate in plan.gates:
        name = gate_name(gate)
        if name in asked and not _holds(seen, seen.reading, name, gate):
            return f"the record does not hold what the gate `{name}` asks for"
    return None


def _holds(seen: Observation, reading: Reading, name: str, gate: object) -> bool:
    if isinstance(gate, (QuerySpec, WebhookSpec)):
        return name in seen.checks
    if isinstance(gate, (PredictionsSpec, QualitySpec)):
        return bool(reading.answers) or bool(reading.missing)
    if isinstance(gate, AgreementSpec):
        return reading.pairs is not None
    return True
