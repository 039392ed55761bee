"""The state of one rollout: all that a runner must know to go on where another one died.

Sufficient statistics only. Law: `RolloutState.from_json(s.to_json()) == s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from coalmine.rollout.evidence import Reading
from coalmine.rollout.gates import Gate, kinds
from coalmine.rollout.ports import Request
from coalmine.rollout.written import (
    reading_from_json,
    reading_to_json,
    request_from_json,
    request_to_json,
)
from coalmine.slots import Slot


class Phase(StrEnum):
    INSTALLING = "installing"  # the candidate starts; users are all on stable
    PROGRESSING = "progressing"  # in a stage
    BAKING = "baking"  # all users on the candidate, stable ready to take them back
    PROMOTING = "promoting"  # decided; the record is being written
    ROLLING_BACK = "rolling_back"  # decided; users go back, then the record is written
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"

    @property
    def ended(self) -> bool:
        return self in (Phase.PROMOTED, Phase.ROLLED_BACK)

    @property
    def deciding(self) -> bool:
        """Not decided yet: a person may still abort, promote or pause."""
        return self in (Phase.INSTALLING, Phase.PROGRESSING, Phase.BAKING)


@dataclass(frozen=True)
class Traffic:
    """Requests of both arms together, counted since the rollout began."""

    requests: int = 0
    seconds: float = 0.0

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Routed:
    """Requests of both arms counted at one weight, and in how many seconds."""

    candidate: int = 0
    stable: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class RolloutState:
    """
    stage: index into the plan's stages; meaningful while PROGRESSING and after.
    weight_percent: the candidate's share that was asked of the router.
    base: the reading that the next poll's counts start from; None: take a new one first.
    straddles: whether it was read before the weight was set, so that requests came by two weights since.
    entered_at_s: when this phase, or this stage, began.
    measured_at_s: when candidate traffic was last measured.
    routed: how requests came in this stage; skewed_since_s: since when that is not by its weight.
    margins: what the stage must rule out, by gate; fixed when it began.
    held: why the stage does not move on, for people; None when nothing holds it.
    approvals: the gates that people approved, each with who did.
    awaiting_approval: whether this stage lacks nothing but an approval, which people were told.
    obeyed: the last requests of people; the journal may give them again.
    dry_runs_told: the gates in dry run of which it was told that they would have rolled back.
    reason: why it ended, or is ending, as it does.
    """

    candidate: Slot
    has_stable: bool
    phase: Phase
    entered_at_s: float
    measured_at_s: float
    stage: int = 0
    weight_percent: int = 0
    base: Reading | None = None
    straddles: bool = False
    traffic: Traffic = Traffic()
    routed: Routed = Routed()
    skewed_since_s: float | None = None
    gates: tuple[Gate, ...] = ()
    margins: tuple[tuple[str, float], ...] = ()
    paused: bool = False
    held: str | None = None
    approvals: tuple[tuple[str, str], ...] = ()
    awaiting_approval: bool = False
    obeyed: tuple[Request, ...] = ()
    dry_runs_told: tuple[str, ...] = ()
    reason: str = ""
    events: int = 0  # how many were told so far
    polls: int = 0  # how many the gates have seen so far
    ticks: int = 0  # how many the journal keeps so far

    @classmethod
    def begin(cls, candidate: Slot, *, has_stable: bool, now_s: float) -> RolloutState:
        return cls(candidate, has_stable, Phase.INSTALLING, now_s, now_s)

    def measuring_from(self, base: Reading | None) -> RolloutState:
        """The next poll's counts start from `base`, which was read at the weight that is set."""
        return replace(self, base=base, straddles=False)

    def entering(self, phase: Phase, now_s: float, **changes: Any) -> RolloutState:
        """`phase` from now on. The poll that is under way began at another weight."""
        return replace(
            self,
            phase=phase,
            straddles=self.base is not None,
            entered_at_s=now_s,
            measured_at_s=now_s,
            routed=Routed(),
            skewed_since_s=None,
            held=None,
            awaiting_approval=False,
            **changes,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate.value,
            "has_stable": self.has_stable,
            "phase": self.phase.value,
            "entered_at_s": self.entered_at_s,
            "measured_at_s": self.measured_at_s,
            "stage": self.stage,
            "weight_percent": self.weight_percent,
            "base": None if self.base is None else reading_to_json(self.base),
            "straddles": self.straddles,
            "traffic": asdict(self.traffic),
            "routed": asdict(self.routed),
            "skewed_since_s": self.skewed_since_s,
            "gates": [kinds.to_json(gate) for gate in self.gates],
            "margins": [list(margin) for margin in self.margins],
            "paused": self.paused,
            "held": self.held,
            "approvals": [list(approval) for approval in self.approvals],
            "awaiting_approval": self.awaiting_approval,
            "obeyed": [request_to_json(request) for request in self.obeyed],
            "dry_runs_told": list(self.dry_runs_told),
            "reason": self.reason,
            "events": self.events,
            "polls": self.polls,
            "ticks": self.ticks,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RolloutState:
        base = content["base"]
        return cls(
            **{
                **content,
                "candidate": Slot(content["candidate"]),
                "phase": Phase(content["phase"]),
                "base": None if base is None else reading_from_json(base),
                "traffic": Traffic(**content["traffic"]),
                "routed": Routed(**content["routed"]),
                "gates": tuple(kinds.from_json(gate) for gate in content["gates"]),
                "margins": tuple((name, margin) for name, margin in content["margins"]),
                "approvals": tuple((name, who) for name, who in content["approvals"]),
                "obeyed": tuple(request_from_json(request) for request in content["obeyed"]),
                "dry_runs_told": tuple(content["dry_runs_told"]),
            }
        )
