"""How one rollout ended, for whatever method."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from benchmarks.gates.traffic import HORIZON_S, Traffic


class Ended(StrEnum):
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Outcome:
    """at_s: when it was decided. excess: user requests that failed by the candidate, to the horizon."""

    ended: Ended
    at_s: float
    excess: int


class Method(Protocol):
    """What drives a rollout over some traffic to its end."""

    @property
    def name(self) -> str: ...

    def run(self, traffic: Traffic) -> Outcome: ...


def promoted(traffic: Traffic) -> Outcome:
    at_s = traffic.now_s
    traffic.finish(1.0)
    return Outcome(Ended.PROMOTED, at_s, traffic.excess)


def rolled_back(traffic: Traffic) -> Outcome:
    return Outcome(Ended.ROLLED_BACK, traffic.now_s, traffic.excess)


def undecided(traffic: Traffic) -> Outcome:
    """At the horizon without a decision, or brought back by a budget."""
    return Outcome(Ended.UNDECIDED, min(traffic.now_s, HORIZON_S), traffic.excess)
