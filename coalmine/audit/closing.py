"""models/<model>/rollouts/<id>/: what stays of a rollout in Git, for whoever asks later.

`rollout.yaml` is read by people; `plan.json` and `ticks.jsonl.gz` hold the plan and all that was seen,
with which each decision can be computed again. Older rollouts have `polls.jsonl.gz`, the counts alone.
The same journal gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import zlib
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from coalmine.audit.story import StageStory, Story, Tally
from coalmine.durable import read_lines
from coalmine.errors import IntegrityError
from coalmine.journals.journal import TICKS
from coalmine.journals.polls import PollRecord, poll_from_json
from coalmine.manifest import Trigger
from coalmine.rollout.ticks import Tick, tick_from_json
from coalmine.spec import YAML_LOADER

RECORD, TICKS_PACKED, POLLS_PACKED = "rollout.yaml", "ticks.jsonl.gz", "polls.jsonl.gz"
_HEAD = """\
# How one rollout went, written by coalmine when it ended. Times are UTC.
# exposure: the requests that users sent to the candidate, and those of them that failed.
# All that was seen stands in ticks.jsonl.gz beside this file, and what was to be done in plan.json.
"""


class Ending(StrEnum):
    PROMOTED = "promoted"
    REJECTED = "rejected"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Count(_Value):
    requests: int
    failures: int


class StageRecord(_Value):
    """gates: what each said at the end of the stage."""

    stage: str
    weight_percent: int
    seconds: float
    candidate: Count
    stable: Count
    gates: dict[str, str]


class EventRecord(_Value):
    at: datetime
    weight_percent: int
    what: str


class RolloutRecord(_Value):
    """Law: `parse_record(dump_record(r)) == r`. ended: the last moment before the closing commit."""

    schema_version: int = 1
    id: str
    model: str
    environment: str
    candidate: str
    stable: str | None
    triggered_by: Trigger
    started: datetime
    ended: datetime
    outcome: Ending
    reason: str
    exposure: Count
    stages: tuple[StageRecord, ...]
    events: tuple[EventRecord, ...]

    def weight_at(self, at: datetime) -> int:
        """The candidate's share in percent at `at`, as the rollout recorded it."""
        before = [event.weight_percent for event in self.events if event.at <= at]
        return before[-1] if before else 0


def record_folder(model: str, rollout: str) -> Path:
    """From the top of the repository."""
    return Path("models") / model / "rollouts" / rollout


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


def dump_record(record: RolloutRecord) -> str:
    content = record.model_dump(mode="json")
    return _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def parse_record(text: str, where: str) -> RolloutRecord:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        return RolloutRecord.model_validate(yaml.load(text, Loader=YAML_LOADER))
    except (yaml.YAMLError, ValidationError) as error:
        raise IntegrityError(
            f"{where} is not a rollout's record that this coalmine reads: {error}. "
            f"Git has it as it was written: git log -- {where}"
        ) from error


def pack_ticks(folder: Path) -> bytes:
    """The journal's ticks in order, compressed, without the time of compression."""
    ticks, _ = read_lines(folder / TICKS)
    lines = (json.dumps(tick, sort_keys=True, separators=(",", ":")) for tick in sorted(ticks, key=_sequence))
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def unpack_ticks(packed: bytes, where: str) -> list[Tick]:
    """
    Raises:
        IntegrityError: not what `pack_ticks` wrote.
    """
    return [tick_from_json(line, where) for line in unpack_lines(packed, where)]


def unpack_polls(packed: bytes, where: str) -> list[PollRecord]:
    """The polls in a `ticks.jsonl.gz`, or in an older rollout's `polls.jsonl.gz`.

    Raises:
        IntegrityError: neither of the two.
    """
    lines = unpack_lines(packed, where)
    polls = [line.get("poll") if "what" in line else line for line in lines]
    return [poll_from_json(poll, where) for poll in polls if poll is not None]


def unpack_lines(packed: bytes, where: str) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in gzip.decompress(packed).splitlines()]
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
