"""The story of a rollout: what happened, in the order it happened, in words for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    STARTED = "started"
    CANDIDATE_READY = "candidate_ready"
    STAGE_STARTED = "stage_started"
    HELD = "held"
    MEASURED_AGAIN = "measured_again"
    PAUSED = "paused"
    RESUMED = "resumed"
    ASK_REFUSED = "ask_refused"
    NEEDS_APPROVAL = "needs_approval"  # a gate waits for a person's word
    APPROVED = "approved"
    DRY_RUN_FAILED = "dry_run_failed"  # a gate that decides nothing would have rolled back
    BAKE_STARTED = "bake_started"
    ROLLING_BACK = "rolling_back"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True)
class Event:
    """sequence: 0, 1, ... within one rollout; weight_percent: the candidate's share after it."""

    sequence: int
    at_s: float
    kind: EventKind
    sentence: str
    weight_percent: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
