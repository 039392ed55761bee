"""Off unless asked for; on, a recorded search that the same rows always end in the same way."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from coalmine.errors import DataRefused, SpecError
from pipelines.prepare import prepare
from pipelines.tune import tune

TUNING = {
    "metric": "log_loss",
    "budget": 4,
    "folds": 3,
    "search": {"learning_rate": [0.001, 0.1, 0.3], "max_leaf_nodes": [3, 7]},
}


def tuned(workshop):
    return json.loads((workshop.model / "tuned.json").read_text())


def test_off_it_writes_an_empty_record(workshop):
    tune(workshop.top, "buyers")
    assert tuned(workshop) == {}


def test_off_it_does_not_wait_for_scikit_learn():
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, pipelines.tune; print('sklearn' in sys.modules, 'pandas' in sys.modules)",
        ],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert ran.stdout.split() == ["False", "False"]


def test_everything_tried_is_recorded_and_the_best_is_chosen(workshop):
    prepare(workshop.top, "buyers")
    workshop.write_model(tuning=TUNING)
    tune(workshop.top, "buyers")
    found = tuned(workshop)
    assert len(found["tried"]) == 4
    assert found["tried"][0]["params"] == {}  # as model.yaml has it
    assert len({json.dumps(each["params"]) for each in found["tried"]}) == 4
    best = min(found["tried"], key=lambda each: each["score"])
    assert (found["params"], found["score"]) == (best["params"], best["score"])
    assert all(len(each["folds"]) == 3 for each in found["tried"])


def test_the_search_never_sees_the_test_rows_and_repeats_to_the_byte(workshop):
    prepare(workshop.top, "buyers")
    workshop.write_model(tuning=TUNING)
    tune(workshop.top, "buyers")
    first = (workshop.model / "tuned.json").read_bytes()
    (workshop.model / "prepared/test.parquet").unlink()
    tune(workshop.top, "buyers")
    assert (workshop.model / "tuned.json").read_bytes() == first


def test_a_budget_beyond_the_grid_tries_the_grid(workshop):
    prepare(workshop.top, "buyers")
    workshop.write_model(tuning={**TUNING, "budget": 50, "search": {"learning_rate": [0.1, 0.3]}})
    tune(workshop.top, "buyers")
    assert len(tuned(workshop)["tried"]) == 3


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"metric": "logloss"}, SpecError, "`tuning.metric`.*did you mean `log_loss`"),
        ({"search": {"learning_rat": [1]}}, SpecError, "`tuning.search`.*did you mean `learning_rate`"),
        ({"folds": 99}, DataRefused, "needs at least 100 values of `day`"),
    ],
    ids=["metric", "parameter", "folds"],
)
def test_what_cannot_be_searched_is_refused(workshop, changes, error, said):
    prepare(workshop.top, "buyers")
    workshop.write_model(tuning={**TUNING, **changes})
    with pytest.raises(error, match=said):
        tune(workshop.top, "buyers")
    assert not (workshop.model / "tuned.json").exists()
