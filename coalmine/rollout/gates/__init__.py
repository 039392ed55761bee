"""Gates: what a rollout stage must show, each from counts, each valid however often it is looked at.

A gate is a value with its evidence inside. `observe` returns the gate that has seen one
more poll; nothing here reads a clock, a socket or chance. Roll-back evidence carries over
from stage to stage; promote evidence starts anew with each.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from coalmine.rollout.evidence import Poll
from coalmine.statistics.comparison import Comparison
from coalmine.statistics.eprocess import TwoArmCounts


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
    verdict: what follows from it for this gate alone. A gate says it itself where it could not measure, and
        a check always; for the rest `combine.judged` does.
    by_evidence: False of a check: it has a verdict and no e-values.
    asked: whether this stage asks it. What it showed against the candidate before counts all the same.
    dry_run: it is measured and told, and decides nothing.
    numbers: what else there is to show.
    stake: its weight in the mean of all gates' roll-back evidence, fixed beforehand.
    """

    gate: str
    log_e_roll_back: float
    log_e_promote: float
    candidate: float | None
    stable: float | None
    sentence: str
    verdict: Verdict | None = None
    by_evidence: bool = True
    asked: bool = True
    dry_run: bool = False
    numbers: Mapping[str, float] = field(default_factory=dict)
    stake: float = 1.0


class Gate(Protocol):
    """One gate with its evidence: a frozen dataclass of a few kB, which `kinds` saves."""

    @property
    def name(self) -> str: ...

    def for_stage(self, margin: float) -> Self:
        """The gate at the start of a stage: promote evidence anew, against `margin`."""
        ...

    def observe(self, poll: Poll) -> Self:
        """The gate after one more poll."""
        ...

    def reading(self) -> GateReading: ...


def bet(comparison: Comparison, counts: TwoArmCounts, poll: Poll) -> Comparison:
    """`comparison` after `counts` of the requests in `poll`."""
    if poll.realised:
        return comparison.with_realised_poll(counts)
    if poll.weight == 0:
        return comparison.with_counted(counts)
    return comparison.with_poll(counts, poll.weight, poll.mirrored)


def unread(poll: Poll) -> str:
    """What an arm's model servers did not tell in `poll`, and why, for people."""
    why = f" ({'; '.join(poll.missing)})" if poll.missing else ""
    return f"the model servers of {' and '.join(poll.unread)} could not be read{why}"
