"""Which commit made a model due, and what the record says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coalmine.audit.attribution import to_trailer
from coalmine.manifest import Trigger
from coalmine.triggers.change import Edit, cause_of, version_that_changed

SAM, KIM = "Sam Li <sam@example.com>", "Kim <kim@example.org>"
CODE = Edit(Path("pipelines/features.py"), (), "b" * 40, SAM)
KEYS = Edit(Path("models/delay/model.yaml"), ("estimator", "split"), "a" * 40, KIM)


def test_a_change_is_its_authors_and_names_file_key_and_commit() -> None:
    trigger = cause_of([CODE, KEYS]).trigger(run="a run")
    because = (
        f"changed since it was trained: pipelines/features.py by {SAM} in bbbbbbbbbbbb; "
        f"estimator, split in models/delay/model.yaml by {KIM} in aaaaaaaaaaaa"
    )
    assert trigger == Trigger(kind="change", who=SAM, proof="claimed", run="a run", because=because)
    assert to_trailer(trigger) == f"{SAM} (change, claimed)"


def test_what_had_no_cause_is_written_as_before_so_that_older_releases_keep_their_digest() -> None:
    nightly = Trigger(kind="schedule", who="nightly")
    assert nightly.model_dump(mode="json") == {
        "kind": "schedule",
        "who": "nightly",
        "proof": "unknown",
        "run": None,
    }


def test_one_cause_has_one_key_whatever_else_changed_before_it() -> None:
    assert cause_of([CODE]).key == cause_of([CODE, KEYS]).key != cause_of([KEYS]).key


OLD = {"estimator": {"depth": 3}, "split": {}}
DEEPER = {**OLD, "estimator": {"depth": 4}}
ROLLED = {**DEEPER, "rollout": {"stages": [5]}}


@pytest.mark.parametrize(
    ("versions", "keys", "number"),
    [
        pytest.param([ROLLED, DEEPER, OLD], ["estimator"], 1, id="not the edit of another key after it"),
        pytest.param([ROLLED, DEEPER, OLD], ["estimator.depth"], 1, id="of a nested key"),
        pytest.param([DEEPER, OLD, DEEPER, OLD], ["estimator"], 0, id="the newest of several"),
        pytest.param([DEEPER, {}], ["estimator"], 0, id="the first version of all"),
        pytest.param([ROLLED, DEEPER], ["split"], 0, id="none did: the stage reads another key now"),
        pytest.param([OLD], ["estimator"], 0, id="there is one"),
    ],
)
def test_the_version_that_changed_a_key(versions: list[dict[str, Any]], keys: list[str], number: int) -> None:
    assert version_that_changed(versions, keys) == number
