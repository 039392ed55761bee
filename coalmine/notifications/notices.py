"""Which events of a rollout somebody is told of, and in which words. Pure.

Six kinds. A stage that is held for a moment is nobody's business: a hold is told once it has lasted
`HELD_FOR_S`, and then so is its end. A rollback is told when it is decided, since the users go back at
that moment and the record may have to wait for Git; a promotion, when it is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from coalmine.audit.situation import HOLD_ENDS, NextStep, Situation, next_steps
from coalmine.journals.about import About
from coalmine.rollout.events import Event, EventKind

HELD_FOR_S = 60.0


class Told(StrEnum):
    STARTED = "started"
    HELD = "held"
    ADVANCED = "advanced"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    NEEDS_YOU = "needs-you"  # an approval waits for a person


@dataclass(frozen=True)
class Notice:
    """What somebody is told once.

    sequence: of the event that it is about, by which it is known.
    over: what was told as `told` before is over: the stage moves again, the approval came.
    page: where `coalmine report` writes the rollout's page, on the machine that runs it.
    """

    about: About
    sequence: int
    told: Told
    at_s: float
    sentence: str
    weight_percent: int
    page: Path
    over: bool = False

    @property
    def title(self) -> str:
        about = self.about
        heading = _OVER_HEADINGS[self.told] if self.over else _HEADINGS[self.told]
        return f"{about.model} {about.candidate} in {about.environment}: {heading}"

    @property
    def steps(self) -> tuple[NextStep, ...]:
        return next_steps(self.about, Situation.GOING_ON if self.over else _SITUATIONS[self.told])


@dataclass(frozen=True)
class Due:
    """What is to be told of a rollout by now. again_s: when to look again, though nothing happens."""

    notices: tuple[Notice, ...]
    again_s: float | None = None


_HEADINGS = {
    Told.STARTED: "started",
    Told.HELD: "held",
    Told.ADVANCED: "goes on",
    Told.PROMOTED: "promoted",
    Told.ROLLED_BACK: "rolled back",
    Told.NEEDS_YOU: "needs your approval",
}
_OVER_HEADINGS = {Told.HELD: "no longer held", Told.NEEDS_YOU: "approved"}
_SITUATIONS = {
    Told.STARTED: Situation.GOING_ON,
    Told.HELD: Situation.HELD,
    Told.ADVANCED: Situation.GOING_ON,
    Told.PROMOTED: Situation.PROMOTED,
    Told.ROLLED_BACK: Situation.ROLLED_BACK,
    Told.NEEDS_YOU: Situation.NEEDS_APPROVAL,
}
_AT_ONCE = {
    EventKind.STARTED: Told.STARTED,
    EventKind.STAGE_STARTED: Told.ADVANCED,
    EventKind.BAKE_STARTED: Told.ADVANCED,
    EventKind.NEEDS_APPROVAL: Told.NEEDS_YOU,
    EventKind.PROMOTED: Told.PROMOTED,
    EventKind.ROLLING_BACK: Told.ROLLED_BACK,
}


def due(about: About, events: Sequence[Event], page: Path, now_s: float) -> Due:
    """Everything that is to be told of a rollout by `now_s`, from its beginning on, oldest first.

    The same events give the same notices at every later time, so that what was told is known by its
    sequence.
    """

    def notice(event: Event, told: Told, *, over: bool = False) -> Notice:
        return Notice(
            about, event.sequence, told, event.at_s, event.sentence, event.weight_percent, page, over
        )

    notices: list[Notice] = []
    held: Notice | None = None  # the hold that goes on, with its newest words
    for event in events:
        if held is not None and event.kind in HOLD_ENDS:
            if event.at_s - held.at_s >= HELD_FOR_S:
                notices.append(held)
                # Another stage, or the end, says by itself that the hold is over.
                if event.kind is EventKind.MEASURED_AGAIN:
                    notices.append(notice(event, Told.HELD, over=True))
            held = None
        if event.kind is EventKind.HELD:
            said = notice(event, Told.HELD)
            held = said if held is None else replace(held, sentence=said.sentence)
        elif event.kind is EventKind.APPROVED:
            notices.append(notice(event, Told.NEEDS_YOU, over=True))
        elif event.kind in _AT_ONCE:
            notices.append(notice(event, _AT_ONCE[event.kind]))
    if held is None:
        return Due(tuple(notices))
    if now_s - held.at_s >= HELD_FOR_S:
        return Due((*notices, held))
    return Due(tuple(notices), held.at_s + HELD_FOR_S)
