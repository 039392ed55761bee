"""What the journal keeps of each tick: all that was seen, and what the gates made of it.

The first line begins the rollout; `replay` folds the lines with the plan to the same decisions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from coalmine.errors import IntegrityError
from coalmine.rollout.decision import Measured, Observation, Unmeasured
from coalmine.rollout.evidence import AnswerCounts, ArmCounts, Poll
from coalmine.rollout.gates import GateReading
from coalmine.rollout.state import RolloutState
from coalmine.rollout.written import (
    Json,
    check_from_json,
    check_to_json,
    reading_from_json,
    reading_to_json,
    request_from_json,
    request_to_json,
    split_from_json,
    split_to_json,
    status_from_json,
    status_to_json,
)
from coalmine.slots import Slot


class Happening(StrEnum):
    BEGUN = "begun"
    SEEN = "seen"
    RESUMED = "resumed"  # another runner goes on
    UNROUTED = "unrouted"  # the users could not be moved, and stay where they are
    RECORDED = "recorded"  # the closing commit is pushed
    UNRECORDED = "unrecorded"  # it could not be, and waits


@dataclass(frozen=True)
class Beginning:
    """asked_by: who sends the release; again: it was turned away here before."""

    candidate: Slot
    has_stable: bool
    asked_by: str = ""
    again: bool = False


@dataclass(frozen=True)
class Tick:
    """What happened at one moment: of the two, what goes with it."""

    sequence: int  # 0, 1, ... within one rollout
    at_s: float
    what: Happening
    beginning: Beginning | None = None
    seen: Observation | None = None
    why: str = ""


def tick_to_json(tick: Tick) -> Json:
    """Law: `tick_from_json(tick_to_json(t)) == t`."""
    begun, seen = tick.beginning, tick.seen
    return {
        "sequence": tick.sequence,
        "at_s": tick.at_s,
        "what": tick.what.value,
        **({} if begun is None else {"beginning": _beginning_to_json(begun)}),
        **({} if seen is None else {"seen": observation_to_json(seen)}),
        **({"why": tick.why} if tick.why else {}),
    }


def tick_from_json(content: Mapping[str, Any], where: str) -> Tick:
    """
    Raises:
        IntegrityError: not a tick as the runner writes it.
    """
    try:
        begun, seen = content.get("beginning"), content.get("seen")
        return Tick(
            content["sequence"],
            content["at_s"],
            Happening(content["what"]),
            None if begun is None else Beginning(**{**begun, "candidate": Slot(begun["candidate"])}),
            None if seen is None else observation_from_json(seen),
            content.get("why", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{where} holds a tick that cannot be read ({type(error).__name__}: {error}). Use the version of "
            "coalmine that ran the rollout, or take the ticks from the closing commit."
        ) from error


def fingerprint(state: RolloutState) -> str:
    """By which a replay knows the state that was decided then."""
    return hashlib.sha256(json.dumps(state.to_json(), sort_keys=True).encode()).hexdigest()[:16]


def _beginning_to_json(begun: Beginning) -> Json:
    return {
        "candidate": begun.candidate.value,
        "has_stable": begun.has_stable,
        "asked_by": begun.asked_by,
        "again": begun.again,
    }


# --- what was seen ---------------------------------------------------------------------


def observation_to_json(seen: Observation) -> Json:
    return {
        "split": _or_unmeasured(seen.split, split_to_json),
        "candidate": _or_unmeasured(seen.candidate, status_to_json),
        "reading": _or_unmeasured(seen.reading, reading_to_json),
        **({} if seen.stable is None else {"stable": _or_unmeasured(seen.stable, status_to_json)}),
        **({"requests": [request_to_json(r) for r in seen.requests]} if seen.requests else {}),
        **({"checks": {name: check_to_json(c) for name, c in seen.checks.items()}} if seen.checks else {}),
    }


def observation_from_json(content: Mapping[str, Any]) -> Observation:
    return Observation(
        split=_or_unmeasured_from(content["split"], split_from_json),
        candidate=_or_unmeasured_from(content["candidate"], status_from_json),
        reading=_or_unmeasured_from(content["reading"], reading_from_json),
        requests=tuple(request_from_json(r) for r in content.get("requests", ())),
        checks={name: check_from_json(c) for name, c in content.get("checks", {}).items()},
        stable=_or_unmeasured_from(content.get("stable"), status_from_json),
    )


def _or_unmeasured(value: Any, to_json: Any) -> Json | None:
    if value is None:
        return None
    return {"unmeasured": value.reason} if isinstance(value, Unmeasured) else to_json(value)


def _or_unmeasured_from(content: Any, from_json: Any) -> Any:
    if content is None:
        return None
    return Unmeasured(content["unmeasured"]) if "unmeasured" in content else from_json(content)


# --- what the gates made of it ---------------------------------------------------------


def measured_to_json(measured: Measured) -> Json:
    poll = measured.poll
    return {
        "sequence": measured.sequence,
        "at_s": measured.at_s,
        "stage": measured.stage,
        "kind": measured.kind.value,
        "weight_percent": measured.weight_percent,
        **({"mirrored": True} if poll.mirrored else {}),
        "candidate": _counts_to_json(poll.candidate),
        "stable": _counts_to_json(poll.stable),
        "bounds_s": list(poll.bounds_s),
        **_answers_to_json(poll),
        **({} if poll.pairs is None else {"pairs": [poll.pairs.compared, poll.pairs.different]}),
        "gates": [_gate_to_json(reading) for reading in measured.gates],
    }


def _answers_to_json(poll: Poll) -> Json:
    if not poll.answers:
        return {}
    answers = {arm.value: _answered_to_json(counts) for arm, counts in poll.answers.items()}
    return {"answers": answers, "score_bounds": list(poll.score_bounds)}


def _answered_to_json(counts: AnswerCounts) -> Json:
    return {"within": list(counts.within), "labels": counts.labels, "loss": counts.loss}


def _counts_to_json(counts: ArmCounts) -> Json:
    return {"requests": counts.requests, "failures": counts.failures, "within": list(counts.within)}


def _gate_to_json(reading: GateReading) -> Json:
    return {
        "gate": reading.gate,
        "log_e_roll_back": reading.log_e_roll_back,
        "log_e_promote": reading.log_e_promote,
        "candidate": reading.candidate,
        "stable": reading.stable,
        "sentence": reading.sentence,
        "verdict": None if reading.verdict is None else reading.verdict.value,
        **({} if reading.by_evidence else {"by_evidence": False}),
        **({} if reading.asked else {"asked": False}),
        **({"dry_run": True} if reading.dry_run else {}),
        **({"numbers": dict(reading.numbers)} if reading.numbers else {}),
        **({"stake": reading.stake} if reading.stake != 1 else {}),
    }
