"""models/<model>/rollouts/<id>/: what stays of a rollout in Git, for whoever asks later.

`rollout.yaml` is read by people; `plan.json` and `ticks.jsonl.gz` hold the plan and all that was seen,
with which each decision can be computed again. Older rollouts have `polls.jsonl.gz`, the counts alone.
The same journal gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coalmine.audit.rollout_record import Count, Ending, EventRecord, RolloutRecord, StageRecord
from coalmine.audit.story import StageStory, Story, Tally
from coalmine.durable import read_lines
from coalmine.errors import IntegrityError
from coalmine.journals.journal import TICKS
from coalmine.journals.polls import PollRecord, poll_from_json
from coalmine.rollout.ticks import Tick, tick_from_json


@dataclass(frozen=True)
class Line:
    """One line of a journal or of a record, and the text that it was read from."""

    content: Mapping[str, Any]
    text: str


def to_record(story: Story, outcome: Ending, reason: str) -> RolloutRecord:
    """`story` must have begun."""
    about = story.about
    assert story.started_at_s is not None
    assert story.known_until_s is not None
    return RolloutRecord(
        id=about.id,
        model=about.model,
        environment=about.environment,
        candidate=about.candidate,
        stable=about.stable,
        triggered_by=about.triggered_by,
        started=_moment(story.started_at_s),
        ended=_moment(story.known_until_s),
        outcome=outcome,
        reason=reason,
        exposure=_count(story.candidate),
        stages=tuple(_stage(stage) for stage in story.stages),
        events=tuple(
            EventRecord(at=_moment(event.at_s), weight_percent=event.weight_percent, what=event.sentence)
            for event in story.events
        ),
    )


def pack_ticks(folder: Path) -> bytes:
    """The journal's ticks in order, compressed, without the time of compression."""
    ticks, _ = read_lines(folder / TICKS)
    lines = map(as_written, sorted(ticks, key=_sequence))
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def as_written(value: object) -> str:
    """A tick, or a part of one, as `pack_ticks` writes it: the same value gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def unpack_ticks(packed: bytes, where: str) -> list[Tick]:
    """
    Raises:
        IntegrityError: not what `pack_ticks` wrote.
    """
    return [tick_from_json(line.content, where) for line in unpack_lines(packed, where)]


def unpack_polls(packed: bytes, where: str) -> list[PollRecord]:
    """The polls in a `ticks.jsonl.gz`, or in an older rollout's `polls.jsonl.gz`.

    Raises:
        IntegrityError: neither of the two.
    """
    return polls_in(unpack_lines(packed, where), where)


def polls_in(lines: Iterable[Line], where: str) -> list[PollRecord]:
    """As `unpack_polls`, of what is unpacked already."""
    contents = (line.content for line in lines)
    polls = [content.get("poll") if "what" in content else content for content in contents]
    return [poll_from_json(poll, where) for poll in polls if poll is not None]


def unpack_lines(packed: bytes, where: str) -> list[Line]:
    """
    Raises:
        IntegrityError: it cannot be unpacked.
    """
    try:
        return [Line(json.loads(text), text.decode()) for text in gzip.decompress(packed).splitlines()]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise IntegrityError(
            f"{where} cannot be unpacked ({error}). Git has it as it was written: git log -- {where}"
        ) from error


def _sequence(tick: dict[str, int]) -> int:
    return tick["sequence"]


def _stage(stage: StageStory) -> StageRecord:
    return StageRecord(
        stage=stage.label,
        weight_percent=stage.weight_percent,
        seconds=round(stage.seconds, 3),
        candidate=_count(stage.candidate),
        stable=_count(stage.stable),
        gates={gate.gate: gate.sentence for gate in stage.gates},
    )


def _count(tally: Tally) -> Count:
    return Count(requests=tally.requests, failures=tally.failures)


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
