"""What a rollout sees, as plain JSON values and back, exactly. Compact: a journal holds thousands.

Law: `x_from_json(x_to_json(x)) == x`, through the text of JSON too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coalmine.rollout.evidence import Answers, Arm, Counters, Pairs, Reading
from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import (
    Ask,
    CheckResult,
    Match,
    Request,
    SlotHealth,
    SlotStatus,
    TrafficSplit,
    UserKey,
)
from coalmine.slots import Slot

Json = dict[str, Any]


def reading_to_json(reading: Reading) -> Json:
    pairs = reading.pairs
    return {
        "at_s": reading.at_s,
        "epoch": reading.epoch,
        "arms": _arms_to_json(reading.arms),
        **({} if reading.mirrored is None else {"mirrored": _arms_to_json(reading.mirrored)}),
        **({"answers": _answers_to_json(reading.answers)} if reading.answers else {}),
        **({} if pairs is None else {"pairs": [pairs.epoch, pairs.compared, pairs.different]}),
        **({"missing": list(reading.missing)} if reading.missing else {}),
        **({"late_s": reading.late_s} if reading.late_s else {}),
    }


def reading_from_json(content: Mapping[str, Any]) -> Reading:
    return Reading(
        content["at_s"],
        content["epoch"],
        _arms_from_json(content["arms"]),
        mirrored=_arms_from_json(content["mirrored"]) if "mirrored" in content else None,
        answers={
            Arm(arm): Answers(a["epoch"], _buckets(a["scores"]), a["labels"], a["loss"])
            for arm, a in content.get("answers", {}).items()
        },
        pairs=Pairs(*content["pairs"]) if "pairs" in content else None,
        missing=tuple(content.get("missing", ())),
        late_s=content.get("late_s", 0.0),
    )


def _arms_to_json(arms: Mapping[Arm, Counters]) -> Json:
    return {
        arm.value: {
            "requests": counters.requests,
            "failures": counters.failures,
            "durations": [list(bucket) for bucket in counters.durations],
        }
        for arm, counters in arms.items()
    }


def _arms_from_json(content: Mapping[str, Any]) -> dict[Arm, Counters]:
    return {
        Arm(arm): Counters(c["requests"], c["failures"], _buckets(c["durations"]))
        for arm, c in content.items()
    }


def _answers_to_json(answers: Mapping[Arm, Answers]) -> Json:
    return {
        arm.value: {
            "epoch": a.epoch,
            "scores": [list(bucket) for bucket in a.scores],
            "labels": a.labels,
            "loss": a.loss,
        }
        for arm, a in answers.items()
    }


def _buckets(content: Any) -> tuple[tuple[float, int], ...]:
    return tuple((bound, count) for bound, count in content)


def split_to_json(split: TrafficSplit) -> Json:
    match, sticky = split.match, split.sticky
    return {
        "weights": {slot.value: weight for slot, weight in split.weights.items()},
        **({"mirror_percent": split.mirror_percent} if split.mirror_percent else {}),
        **({} if match is None else {"match": [match.key.kind, match.key.name, match.value]}),
        **({} if split.match_to is None else {"match_to": split.match_to.value}),
        **({} if sticky is None else {"sticky": [sticky.kind, sticky.name]}),
    }


def split_from_json(content: Mapping[str, Any]) -> TrafficSplit:
    match, to, sticky = (content.get(key) for key in ("match", "match_to", "sticky"))
    return TrafficSplit(
        {Slot(slot): weight for slot, weight in content["weights"].items()},
        mirror_percent=content.get("mirror_percent", 0),
        match=None if match is None else Match(UserKey(match[0], match[1]), match[2]),
        match_to=None if to is None else Slot(to),
        sticky=None if sticky is None else UserKey(sticky[0], sticky[1]),
    )


def status_to_json(status: SlotStatus) -> Json:
    return {"health": status.health.value, "detail": status.detail}


def status_from_json(content: Mapping[str, Any]) -> SlotStatus:
    return SlotStatus(SlotHealth(content["health"]), content["detail"])


def request_to_json(request: Request) -> Json:
    return {"ask": request.ask.value, "who": request.who, "at_s": request.at_s}


def request_from_json(content: Mapping[str, Any]) -> Request:
    return Request(Ask(content["ask"]), content["who"], content["at_s"])


def check_to_json(result: CheckResult) -> Json:
    return {"verdict": result.verdict.value, "sentence": result.sentence, "value": result.value}


def check_from_json(content: Mapping[str, Any]) -> CheckResult:
    return CheckResult(Verdict(content["verdict"]), content["sentence"], content["value"])
