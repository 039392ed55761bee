"""Two locks compared: what the stages were given explains what they made."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from coalmine.operations.differences import Cause, Difference, by_cause, lock_differences

Lock = dict[str, Any]
RECORDED: Lock = {
    "schema": "2.0",
    "stages": {
        "prepare": {
            "cmd": "python -m pipelines.prepare",
            "deps": [
                {"path": "data/loans/partitions", "md5": "a1.dir"},
                {"path": "data/loans/dataset.yaml", "md5": "b1"},
                {"path": "pipelines/prepare.py", "md5": "c1"},
            ],
            "params": {"models/m/model.yaml": {"target": "late"}},
            "outs": [{"path": "models/m/prepared", "md5": "d1.dir"}],
        },
        "train": {
            "cmd": "python -m pipelines.train",
            "deps": [{"path": "models/m/prepared", "md5": "d1.dir"}],
            "outs": [{"path": "models/m/model.skops", "md5": "e1"}],
        },
    },
}


def dependency(number: int, digest: str) -> Callable[[Lock], None]:
    return lambda lock: lock["stages"]["prepare"]["deps"][number].update(md5=digest)


def command(lock: Lock) -> None:
    lock["stages"]["train"]["cmd"] += " --fast"


def parameter(lock: Lock) -> None:
    lock["stages"]["prepare"]["params"]["models/m/model.yaml"]["target"] = "paid"


def output(lock: Lock) -> None:
    lock["stages"]["train"]["outs"][0]["md5"] = "e2"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            dependency(0, "a2.dir"),
            Difference(Cause.DATA, "data/loans/partitions", "a1.dir", "a2.dir"),
            id="rows",
        ),
        pytest.param(
            dependency(1, "b2"), Difference(Cause.CODE, "data/loans/dataset.yaml", "b1", "b2"), id="schema"
        ),
        pytest.param(
            dependency(2, "c2"), Difference(Cause.CODE, "pipelines/prepare.py", "c1", "c2"), id="code"
        ),
        pytest.param(
            command,
            Difference(
                Cause.CODE, "stage train", "python -m pipelines.train", "python -m pipelines.train --fast"
            ),
            id="command",
        ),
        pytest.param(
            parameter,
            Difference(Cause.PARAMETERS, "target of models/m/model.yaml", "late", "paid"),
            id="parameter",
        ),
        pytest.param(output, Difference(Cause.DIGEST, "models/m/model.skops", "e1", "e2"), id="bytes"),
    ],
)
def test_each_difference_is_told_with_its_cause(change: Callable[[Lock], None], expected: Difference) -> None:
    found = copy.deepcopy(RECORDED)
    change(found)
    assert list(lock_differences(RECORDED, found)) == [expected]


def test_equal_locks_differ_in_nothing() -> None:
    assert list(lock_differences(RECORDED, copy.deepcopy(RECORDED))) == []


def test_a_stage_that_only_one_has_is_a_difference() -> None:
    found = copy.deepcopy(RECORDED)
    del found["stages"]["train"]
    assert {difference.cause for difference in lock_differences(RECORDED, found)} == {
        Cause.CODE,
        Cause.DIGEST,
    }


def test_what_one_stage_hands_to_the_next_is_told_once_and_after_its_cause() -> None:
    found = copy.deepcopy(RECORDED)
    output(found)
    found["stages"]["prepare"]["outs"][0]["md5"] = found["stages"]["train"]["deps"][0]["md5"] = "d2.dir"
    dependency(2, "c2")(found)
    told = by_cause(list(lock_differences(RECORDED, found)))
    assert [(each.cause, each.what) for each in told] == [
        (Cause.CODE, "pipelines/prepare.py"),
        (Cause.DIGEST, "models/m/prepared"),
        (Cause.DIGEST, "models/m/model.skops"),
    ]
