"""One poll of a rollout as the journal keeps it: both arms' counts, and what each gate said then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coalmine.errors import IntegrityError
from coalmine.rollout.evidence import AnswerCounts, Arm, ArmCounts, PairCounts
from coalmine.rollout.gates import GateReading, Verdict
from coalmine.rollout.plan import StageKind


@dataclass(frozen=True)
class PollRecord:
    """
    sequence: 0, 1, ... within one rollout.
    stage: index of the rollout stage, None while baking.
    bounds_s: the duration bounds that `within` counts, ascending.
    mirrored: the counts hold copies, whose answers no user saw.
    answers: rows and labels of the arms whose servers could be counted; `within` by `score_bounds`.
    """

    sequence: int
    at_s: float
    stage: int | None
    weight_percent: int
    candidate: ArmCounts
    stable: ArmCounts
    bounds_s: tuple[float, ...]
    gates: tuple[GateReading, ...]
    kind: StageKind = StageKind.WEIGHT
    mirrored: bool = False
    answers: Mapping[Arm, AnswerCounts] = field(default_factory=dict)
    score_bounds: tuple[float, ...] = ()
    pairs: PairCounts | None = None


def poll_from_json(content: Mapping[str, Any], where: str) -> PollRecord:
    """
    Raises:
        IntegrityError: not a poll as the runner writes it.
    """
    try:
        baking = content["stage"] == "bake"
        usual = StageKind.BAKE if baking else StageKind.WEIGHT
        return PollRecord(
            sequence=content["sequence"],
            at_s=content["at_s"],
            stage=None if baking else int(content["stage"]),
            weight_percent=content["weight_percent"],
            candidate=_counts(content["candidate"]),
            stable=_counts(content["stable"]),
            bounds_s=tuple(content["bounds_s"]),
            gates=tuple(_gate(gate) for gate in content["gates"]),
            kind=StageKind(content.get("kind", usual)),
            mirrored=content.get("mirrored", False),
            answers={Arm(arm): _answers(counts) for arm, counts in content.get("answers", {}).items()},
            score_bounds=tuple(content.get("score_bounds", ())),
            pairs=PairCounts(*content["pairs"]) if "pairs" in content else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{where} holds a poll that cannot be read ({type(error).__name__}: {error}). "
            "Use the version of coalmine that ran the rollout, or take the polls from the closing commit."
        ) from error


def _counts(content: Mapping[str, Any]) -> ArmCounts:
    return ArmCounts(content["requests"], content["failures"], tuple(content["within"]))


def _answers(content: Mapping[str, Any]) -> AnswerCounts:
    return AnswerCounts(tuple(content["within"]), content["labels"], content["loss"])


def _gate(content: Mapping[str, Any]) -> GateReading:
    verdict = content.get("verdict")
    return GateReading(**{**content, "verdict": None if verdict is None else Verdict(verdict)})
