"""The values that a tick goes by: what was seen, and what was decided on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.evidence import Poll, Reading
from coalmine.rollout.gates import GateReading
from coalmine.rollout.plan import StageKind
from coalmine.rollout.ports import CheckResult, Request, SlotStatus, TrafficSplit
from coalmine.rollout.state import RolloutState


@dataclass(frozen=True)
class Unmeasured:
    """A port that could not be read, and what it said."""

    reason: str


@dataclass(frozen=True)
class Observation:
    """What the ports showed in one tick.

    stable: whether it can take users back; None where nobody is to be taken back.
    checks: what those that were asked said, by gate name.
    """

    split: TrafficSplit | Unmeasured | None
    candidate: SlotStatus | Unmeasured
    reading: Reading | Unmeasured
    requests: Sequence[Request] = ()
    checks: Mapping[str, CheckResult] = field(default_factory=dict)
    stable: SlotStatus | Unmeasured | None = None


@dataclass(frozen=True)
class Measured:
    """One poll that the gates have seen, as the journal keeps it."""

    sequence: int  # 0, 1, ... within one rollout
    at_s: float
    stage: int | str  # the stage's index, or "bake"
    kind: StageKind
    weight_percent: int
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

    def telling(self, now_s: float, kind: EventKind, sentence: str) -> Decision:
        """One more event, and the same state."""
        return self.then(self.state, now_s, kind, sentence)

    def holding(self, why: str | None, now_s: float, kind: EventKind = EventKind.HELD) -> Decision:
        """The same place for the reason `why` (None: nothing holds it), told when it changes."""
        state = self.state
        if why == state.held:
            return self
        held = replace(state, held=why)
        if why is None:
            return self.then(held, now_s, EventKind.MEASURED_AGAIN, "Measuring again.")
        return self.then(held, now_s, kind, why)
