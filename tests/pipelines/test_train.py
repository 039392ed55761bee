"""The model file: reproducible, with tuned parameters in place, and honest about bad estimators."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from coalmine.errors import SpecError
from coalmine.evaluation import model_file
from coalmine.evaluation.prepared import read_test
from coalmine.evaluation.scoring import score
from coalmine.spec import Task
from pipelines.prepare import prepare
from pipelines.train import train
from pipelines.tune import tune


@pytest.fixture
def prepared(workshop):
    prepare(workshop.top, "buyers")
    tune(workshop.top, "buyers")
    return workshop


def load(workshop):
    file = workshop.model / "model.skops"
    return model_file.load(file, model_file.untrusted_types(file))


def test_the_stage_gives_the_same_bytes_whatever_threads_it_may_use(prepared):
    written = []
    for threads in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-m", "pipelines.train", "models/buyers"]
        subprocess.run(command, cwd=prepared.top, env=environment, check=True)
        written.append((prepared.model / "model.skops").read_bytes())
    assert written[0] == written[1]


def test_tuned_parameters_take_the_place_of_model_yamls(prepared):
    (prepared.model / "tuned.json").write_text(json.dumps({"params": {"max_iter": 2}}))
    train(prepared.top, "buyers")
    assert load(prepared).n_iter_ == 2


def test_what_is_loaded_answers(prepared):
    train(prepared.top, "buyers")
    test = read_test(prepared.model / "prepared")
    said = score(load(prepared), test, ["minutes", "pages"], Task.BINARY)
    assert said.outputs["probability"].shape == (560,)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        ({"class": "sklearn.ensemble.RandomForest"}, "did you mean `RandomForest"),
        ({"class": "sklearn.linear_model.LogisticRegression"}, "cannot be fitted to data/visits.*NaN"),
        (
            {"class": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": -1}},
            "'max_iter' parameter.*must be",
        ),
    ],
    ids=["no such class", "gaps in the rows", "value out of range"],
)
def test_an_estimator_that_does_not_work_is_refused_and_nothing_is_written(prepared, estimator, said):
    prepared.write_model(estimator=estimator)
    with pytest.raises(SpecError, match=f"(?s){said}"):
        train(prepared.top, "buyers")
    assert not (prepared.model / "model.skops").exists()


def test_the_stage_prints_what_is_wrong_without_a_traceback(prepared):
    prepared.write_model(estimator={"class": "sklearn.svm.NoSuch"})
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines.train", "models/buyers"],
        cwd=prepared.top,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == SpecError.exit_code
    assert "`estimator.class` is sklearn.svm.NoSuch" in ran.stderr
    assert "Traceback" not in ran.stderr
