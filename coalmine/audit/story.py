"""One rollout as a whole, from its journal: how it went so far, stage by stage, and what it cost.

The closing commit and the report page both tell it from here. Pure but for `read_story`;
the numbers are sums of the recorded polls and nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path

from coalmine.journals.about import About
from coalmine.journals.journal import read_about, read_events, read_plan, read_polls
from coalmine.journals.polls import PollRecord
from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.evidence import ArmCounts
from coalmine.rollout.gates import GateReading
from coalmine.rollout.plan import BAKE, Plan, RolloutStage, StageKind


class Course(StrEnum):
    """Where a rollout stands, in the words of its readers."""

    RUNNING = "running"
    ENDING = "ending"  # decided; users are where they stay, the record is being written
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"

    @property
    def is_over(self) -> bool:
        return self in (Course.PROMOTED, Course.ROLLED_BACK)


@dataclass(frozen=True)
class Tally:
    """Requests and failures of one arm, summed over polls."""

    requests: int
    failures: int

    @property
    def failure_rate(self) -> float | None:
        return self.failures / self.requests if self.requests else None


@dataclass(frozen=True)
class StageStory:
    """One stage, or the bake. ended_at_s: the end of what is known while it runs.

    candidate, stable: of a shadow stage with the copies, whose answers nobody saw.
    gates: what each gate said at the end of it; empty when nothing was measured.
    """

    label: str
    kind: StageKind
    weight_percent: int
    started_at_s: float
    ended_at_s: float
    candidate: Tally
    stable: Tally
    gates: tuple[GateReading, ...]

    @property
    def seconds(self) -> float:
        return self.ended_at_s - self.started_at_s

    @property
    def seen_by_users(self) -> bool:
        """Whether users get the candidate's answers in it."""
        return self.kind not in (StageKind.SHADOW, StageKind.PREVIEW)


@dataclass(frozen=True)
class Story:
    """reason: why it ended, or is ending, as it does; "" while it runs. plan: None where none was kept.
    missing: what was not counted, at some time or ever, where that was read."""

    about: About
    course: Course
    reason: str
    events: tuple[Event, ...]
    polls: tuple[PollRecord, ...]
    stages: tuple[StageStory, ...]
    plan: Plan | None = None
    missing: tuple[str, ...] = ()

    @property
    def started_at_s(self) -> float | None:
        return self.events[0].at_s if self.events else None

    @property
    def known_until_s(self) -> float | None:
        """The last moment that the journal tells of."""
        moments = [event.at_s for event in self.events[-1:]] + [poll.at_s for poll in self.polls[-1:]]
        return max(moments, default=None)

    @property
    def weight_percent(self) -> int:
        return self.events[-1].weight_percent if self.events else 0

    @property
    def users_polls(self) -> tuple[PollRecord, ...]:
        """Those whose counts are users' requests, without copies."""
        return tuple(poll for poll in self.polls if not poll.mirrored)

    @property
    def candidate(self) -> Tally:
        """Users' requests that the candidate answered."""
        return tally(poll.candidate for poll in self.users_polls)

    @property
    def stable(self) -> Tally:
        return tally(poll.stable for poll in self.users_polls)

    @property
    def exposed_s(self) -> float:
        """Seconds for which users were sent to the candidate under the gates' eyes."""
        return sum(stage.seconds for stage in self.stages if stage.seen_by_users)


def read_story(folder: Path) -> Story:
    """
    Raises:
        NotFound: no rollout began in `folder`.
        IntegrityError: the journal was edited or damaged.
    """
    return tell(read_about(folder), read_events(folder), read_polls(folder), read_plan(folder))


def tell(about: About, events: list[Event], polls: list[PollRecord], plan: Plan | None = None) -> Story:
    return Story(
        about=about,
        course=_course(events),
        reason=_reason(events),
        events=tuple(events),
        polls=tuple(polls),
        stages=tuple(_stages(_planned(about, plan), events, polls)),
        plan=plan,
    )


def tally(counts: Iterable[ArmCounts]) -> Tally:
    seen = list(counts)
    return Tally(sum(c.requests for c in seen), sum(c.failures for c in seen))


def exceedance(story: Story, arm: Callable[[PollRecord], ArmCounts]) -> dict[float, tuple[int, int]]:
    """Per duration bound in seconds: requests of `arm` that took longer, of how many."""
    longer: dict[float, tuple[int, int]] = {}
    for poll in story.polls:
        counts = arm(poll)
        for bound, within in zip(poll.bounds_s, counts.within, strict=False):
            over, of = longer.get(bound, (0, 0))
            longer[bound] = (over + counts.requests - within, of + counts.requests)
    return dict(sorted(longer.items()))


def _course(events: list[Event]) -> Course:
    kinds = {event.kind for event in events}
    if EventKind.PROMOTED in kinds:
        return Course.PROMOTED
    if EventKind.ROLLED_BACK in kinds:
        return Course.ROLLED_BACK
    if kinds & {EventKind.PROMOTING, EventKind.ROLLING_BACK}:
        return Course.ENDING
    return Course.RUNNING


def _reason(events: list[Event]) -> str:
    for event in reversed(events):
        if event.kind in (EventKind.PROMOTING, EventKind.ROLLING_BACK):
            # The sentence says what is done, then why: "Promoting: every gate passed."
            return event.sentence.partition(": ")[2] or event.sentence
    return ""


def _planned(about: About, plan: Plan | None) -> tuple[RolloutStage, ...]:
    if plan is not None:
        return plan.stages
    return tuple(RolloutStage(StageKind.WEIGHT, weight) for weight in about.stages)


def _stages(
    planned: Sequence[RolloutStage], events: list[Event], polls: list[PollRecord]
) -> Iterable[StageStory]:
    """A stage begins with its event and ends with the next that moves the weight."""
    moves = (EventKind.STAGE_STARTED, EventKind.BAKE_STARTED, EventKind.PROMOTING, EventKind.ROLLING_BACK)
    turns = [event for event in events if event.kind in moves]
    last = max([event.at_s for event in events[-1:]] + [poll.at_s for poll in polls[-1:]], default=0.0)
    number = 0
    for turn, after in zip_longest(turns, turns[1:]):
        if turn.kind is EventKind.STAGE_STARTED:
            stage, label = planned[number], _label(planned, number)
            number += 1
        elif turn.kind is EventKind.BAKE_STARTED:
            stage, label = BAKE, "Bake"
        else:
            continue
        ended_at_s = last if after is None else after.at_s
        # A poll tells of the time before it: the one at the turn itself belongs to the stage before.
        measured = [poll for poll in polls if turn.at_s < poll.at_s <= ended_at_s]
        yield StageStory(
            label=label,
            kind=stage.kind,
            weight_percent=turn.weight_percent,
            started_at_s=turn.at_s,
            ended_at_s=ended_at_s,
            candidate=tally(poll.candidate for poll in measured),
            stable=tally(poll.stable for poll in measured),
            gates=measured[-1].gates if measured else (),
        )


def _label(planned: Sequence[RolloutStage], number: int) -> str:
    named = "" if planned[number].kind is StageKind.WEIGHT else f", {planned[number]}"
    return f"Stage {number + 1} of {len(planned)}{named}"
