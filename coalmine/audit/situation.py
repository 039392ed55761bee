"""Where a rollout stands for the person who looks: what it waits for, and what to type next.

The page, the terminal, `coalmine status` and the notifications all say it from here. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from coalmine.journals.about import About
from coalmine.rollout.events import Event, EventKind


class Situation(StrEnum):
    GOING_ON = "going on"
    HELD = "held"
    PAUSED = "paused"
    NEEDS_APPROVAL = "needs approval"
    RECORDING = "being recorded"  # decided; users are where they stay
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Standing:
    """sentence: what it waits for, in the rollout's own words; "" where it waits for nothing but evidence."""

    situation: Situation
    sentence: str = ""


@dataclass(frozen=True)
class NextStep:
    command: str
    effect: str


# After these the stage waits for nothing that was told before.
MOVES = (
    EventKind.STAGE_STARTED,
    EventKind.BAKE_STARTED,
    EventKind.PROMOTING,
    EventKind.ROLLING_BACK,
)
HOLD_ENDS = (EventKind.MEASURED_AGAIN, *MOVES)


def standing(events: Sequence[Event]) -> Standing:
    """Where the rollout of `events` stands after the last of them."""
    held = approval = pause = None
    for event in events:
        match event.kind:
            case EventKind.HELD:
                held = event
            case EventKind.NEEDS_APPROVAL:
                approval = event
            case EventKind.PAUSED:
                pause = event
            case EventKind.RESUMED:
                pause = None
            case EventKind.APPROVED:
                approval = None
            case EventKind.PROMOTED:
                return Standing(Situation.PROMOTED)
            case EventKind.ROLLED_BACK:
                return Standing(Situation.ROLLED_BACK)
        if event.kind in HOLD_ENDS:
            held = None
        if event.kind in MOVES:
            approval = None
    if any(event.kind in (EventKind.PROMOTING, EventKind.ROLLING_BACK) for event in events):
        return Standing(Situation.RECORDING, "" if held is None else held.sentence)
    # The most a person can do something about comes first.
    for told, situation in (
        (approval, Situation.NEEDS_APPROVAL),
        (pause, Situation.PAUSED),
        (held, Situation.HELD),
    ):
        if told is not None:
            return Standing(situation, told.sentence)
    return Standing(Situation.GOING_ON)


def next_steps(about: About, situation: Situation) -> tuple[NextStep, ...]:
    """What a person may type now, the likeliest first."""
    where = f"{about.model}" if about.environment == "local" else f"{about.model} -e {about.environment}"
    back_to = "nobody is served" if about.stable is None else f"everybody back to {about.stable}"
    abort = NextStep(f"coalmine abort {where}", back_to)
    look = NextStep(f"coalmine report {where}", "writes the rollout's page, with what is known by then")
    match situation:
        case Situation.GOING_ON:
            return (
                NextStep(f"coalmine pause {where}", "no further step; the gates keep watching"),
                abort,
                look,
            )
        case Situation.HELD:
            promote = NextStep(f"coalmine promote {where}", "goes on without evidence, in your name")
            return (look, abort, promote)
        case Situation.PAUSED:
            return (NextStep(f"coalmine resume {where}", "goes on"), abort)
        case Situation.NEEDS_APPROVAL:
            return (NextStep(f"coalmine approve {where}", "goes on, in your name"), abort)
        case Situation.RECORDING:
            return (NextStep("coalmine status", "says what the record waits for"),)
        case Situation.PROMOTED if about.stable is not None:
            return (
                NextStep(f"coalmine rollback {where}", back_to),
                NextStep(f"coalmine audit {where}", "what served when, why, by whom"),
            )
        case Situation.PROMOTED:
            return (NextStep(f"coalmine audit {where}", "what served when, why, by whom"),)
        case Situation.ROLLED_BACK:
            again = f"coalmine deliver {where} --version {about.candidate} --retry"
            return (
                NextStep(f"coalmine replay {about.id}", "computes every decision again from the record"),
                NextStep(again, "rolls this release out again, on purpose"),
            )
        case other:
            assert_never(other)
