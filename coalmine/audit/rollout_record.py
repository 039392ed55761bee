"""models/<model>/rollouts/<id>/rollout.yaml: how one rollout went, for people and for whoever asks later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from coalmine.errors import IntegrityError
from coalmine.manifest import Trigger
from coalmine.registry.repository import Commit
from coalmine.yaml_loader import YAML_LOADER

# In the folder of a rollout, beside the plan. POLLS_PACKED: older ones have it, and no ticks.
RECORD, TICKS_PACKED, POLLS_PACKED = "rollout.yaml", "ticks.jsonl.gz", "polls.jsonl.gz"
_HEAD = """\
# How one rollout went, written by coalmine when it ended. Times are UTC.
# exposure: the requests that users sent to the candidate, and those of them that failed.
# All that was seen stands in ticks.jsonl.gz beside this file, and what was to be done in plan.json.
"""


class Ending(StrEnum):
    PROMOTED = "promoted"
    REJECTED = "rejected"


ENDINGS = frozenset(Ending)


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


def closings(commits: Iterable[Commit]) -> Iterator[Commit]:
    """Those of `commits` that ended a rollout, in their order."""
    return (c for c in commits if c.trailers.get("Decision") in ENDINGS and "Rollout" in c.trailers)


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
