"""One poll of a rollout as the journal keeps it: both arms' counts, and what each gate said then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coalmine.errors import IntegrityError
from coalmine.rollout.evidence import ArmCounts
from coalmine.rollout.gates import GateReading


@dataclass(frozen=True)
class PollRecord:
    """
    sequence: 0, 1, ... within one rollout.
    stage: index of the rollout stage, None while baking.
    bounds_s: the duration bounds that `within` counts, ascending.
    """

    sequence: int
    at_s: float
    stage: int | None
    weight_percent: int
    candidate: ArmCounts
    stable: ArmCounts
    bounds_s: tuple[float, ...]
    gates: tuple[GateReading, ...]


def poll_from_json(content: Mapping[str, Any], where: str) -> PollRecord:
    """
    Raises:
        IntegrityError: not a poll as the runner writes it.
    """
    try:
        return PollRecord(
            sequence=content["sequence"],
            at_s=content["at_s"],
            stage=None if content["stage"] == "bake" else int(content["stage"]),
            weight_percent=content["weight_percent"],
            candidate=_counts(content["candidate"]),
            stable=_counts(content["stable"]),
            bounds_s=tuple(content["bounds_s"]),
            gates=tuple(GateReading(**gate) for gate in content["gates"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{where} holds a poll that cannot be read ({type(error).__name__}: {error}). "
            "Use the version of coalmine that ran the rollout, or take the polls from the closing commit."
        ) from error


def _counts(content: Mapping[str, Any]) -> ArmCounts:
    return ArmCounts(content["requests"], content["failures"], tuple(content["within"]))
