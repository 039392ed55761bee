"""What is known of a rollout before it starts: who sends which release where.

Written once into the rollout's folder, so that journal, report and closing commit tell the
same story without asking Git.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from coalmine.errors import IntegrityError
from coalmine.manifest import Trigger


class About(BaseModel):
    """Law: `parse_about(about.model_dump_json()) == about`.

    candidate, stable: versions; stable is None when nothing served before.
    stages: the candidate's planned weights in percent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    environment: str
    model: str
    candidate: str
    stable: str | None
    stages: tuple[int, ...]
    triggered_by: Trigger


def rollout_id(version: str, now_s: float) -> str:
    """Sorts by time: 20130401T020000-v1.2.3."""
    return f"{datetime.fromtimestamp(now_s, UTC):%Y%m%dT%H%M%S}-v{version}"


def parse_about(text: str, where: str) -> About:
    """
    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        return About.model_validate_json(text)
    except ValidationError as error:
        raise IntegrityError(
            f"{where} is written by coalmine when a rollout begins and cannot be read: {error}. "
            "Restore it from a backup, or move the rollout's folder away and deliver again."
        ) from error
