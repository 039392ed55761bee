"""What makes a model due, asked of a repository whose model is trained."""

from __future__ import annotations

import sys

import pytest

from coalmine.operations.due import Due, due
from coalmine.operations.retrain import retrain
from coalmine.operations.workspace import Workspace
from tests.scenarios.lending import LINEAR, LOANS, MODEL_YAML
from tests.scenarios.workplace import DATASET, MODEL, Workplace

KIM = "Kim <kim@example.org>"
ASKED = "retrain: {on_change: true}\n"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # opening a workspace makes its modules importable


@pytest.fixture
def asking(work: Workplace) -> Workplace:
    """Its model.yaml has `retrain.on_change`."""
    file = work.top / MODEL_YAML
    file.write_text(file.read_text() + ASKED)
    work.commit("Retrain it when something changes")
    return work


def look(work: Workplace) -> Due:
    (found,) = due(Workspace.open(work.top)).models
    return found


def test_a_change_of_what_the_model_is_made_of_retrains_it_once_in_the_name_of_its_author(
    asking: Workplace,
) -> None:
    work = asking
    assert look(work) == Due(MODEL)
    work.edit(MODEL_YAML, LINEAR, f"{LINEAR}  params: {{C: 0.5}}\n")
    work.commit("Less trust in single numbers")
    edited = work.head()
    work.edit(MODEL_YAML, "stages: [30, 60]", "stages: [20, 40]")
    work.commit("Smaller steps")

    (cause,) = look(work).causes
    assert cause.who == KIM
    assert f"estimator in {MODEL_YAML} by {KIM} in {edited[:12]}" in cause.because
    assert cause.because in work.run("due", MODEL).out
    retrain(Workspace.open(work.top), MODEL, cause.trigger(run=None), lambda _: None)
    assert look(work) == Due(MODEL)
    assert work.trailers()["Triggered-By"] == f"{KIM} (change, claimed)"
    assert work.trailers()["Because"] == cause.because
    work.run("deliver", MODEL)
    assert cause.because in work.run("audit", MODEL).out


def test_edits_that_no_stage_depends_on_make_nothing_due(asking: Workplace) -> None:
    asking.edit(MODEL_YAML, "stages: [30, 60]", "stages: [20, 40]")
    asking.edit(MODEL_YAML, "bake_s: 1", "bake_s: 2")
    (asking.top / "pipelines/notes.txt").write_text("nobody reads this")
    asking.commit("Smaller steps")
    assert look(asking) == Due(MODEL)


def test_new_rows_make_due_who_learns_from_them(asking: Workplace) -> None:
    loans = asking.top / LOANS
    loans.write_text(loans.read_text() + "30.5,44,3.2,1\n")
    asking.run("ingest", DATASET, "all", "--replace")
    (waiting,) = look(asking).notes
    assert "changed in no commit" in waiting  # a retraining would be refused, or would not be Git's
    asking.commit("A new loan")
    (cause,) = look(asking).causes
    assert f"data/{DATASET}/partitions.dvc" in cause.because


def test_what_was_reproduced_by_hand_and_committed_is_due_to_be_decided_on(asking: Workplace) -> None:
    asking.edit(MODEL_YAML, LINEAR, f"{LINEAR}  params: {{C: 0.5}}\n")
    asking.dvc("repro", f"models/{MODEL}/dvc.yaml")
    asking.commit("Trained by hand")
    (cause,) = look(asking).causes
    assert f"models/{MODEL}/dvc.lock by {KIM}" in cause.because


def test_a_model_that_does_not_ask_is_not_due_and_the_answer_says_why(work: Workplace) -> None:
    work.edit(MODEL_YAML, LINEAR, f"{LINEAR}  params: {{C: 0.5}}\n")
    work.commit("Less trust in single numbers")
    found = look(work)
    assert found.causes == ()
    assert f"`retrain.on_change` in {MODEL_YAML} is off" in found.notes[0]


def test_a_model_that_cannot_be_looked_at_keeps_no_other_from_it(asking: Workplace) -> None:
    broken = asking.top / "models/broken/model.yaml"
    broken.parent.mkdir()
    broken.write_text("name: broken\n")
    first, second = due(Workspace.open(asking.top)).models
    assert (first.model, first.causes) == ("broken", ())
    assert "`dataset` is missing" in first.notes[0]
    assert second == Due(MODEL)


def test_without_data_nothing_is_due(new_work: Workplace) -> None:
    assert "holds no data yet" in look(new_work).notes[0]
