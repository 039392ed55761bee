"""Gates: what a rollout stage must show, each from counts, each valid however often it is looked at.

A gate is a value with its evidence inside. `observe` returns the gate that has seen one
more poll; nothing here reads a clock, a socket or chance. Roll-back evidence carries over
from stage to stage; promote evidence starts anew with each.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, Self

from coalmine.rollout.evidence import Poll


class Verdict(enum.StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"  # too little evidence: hold
    ERROR = "error"  # could not measure: hold, never promote


@dataclass(frozen=True)
class GateReading:
    """What a gate says now, in numbers and in words.

    log_e_roll_back: evidence, in nats, that the candidate is worse than the roll-back null allows.
    log_e_promote: evidence, in nats, that the candidate is not worse by more than the stage's margin.
    candidate, stable: the observed rates of this rollout, None before any request.
    sentence: for people, e.g. "7 of 82 requests failed on the candidate, 0 of 1,640 on stable".
    """

    gate: str
    log_e_roll_back: float
    log_e_promote: float
    candidate: float | None
    stable: float | None
    sentence: str


class Gate(Protocol):
    """One gate with its evidence. Immutable; serialisable by `to_json`."""

    @property
    def name(self) -> str: ...

    def for_stage(self, margin: float) -> Self:
        """The gate at the start of a stage: promote evidence anew, against `margin`."""
        ...

    def observe(self, poll: Poll) -> Self:
        """The gate after one more poll."""
        ...

    def reading(self) -> GateReading: ...

    def to_json(self) -> dict[str, object]:
        """Sufficient statistics only, a few kB. Law: `from_json(g.to_json()) == g`."""
        ...
