"""From the data to the record: what a retraining commits, in which order, and when it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coalmine.errors import RemoteUnavailable
from coalmine.manifest import Outcome, Trigger
from coalmine.operations.retrain import retrain
from coalmine.operations.workspace import Workspace
from tests.scenarios.lending import LINEAR, LOANS, MODEL_YAML
from tests.scenarios.users import asking
from tests.scenarios.workplace import DATASET, MODEL, Workplace

OF_A_RELEASE = {
    f"models/{MODEL}/{name}"
    for name in (".gitignore", "dvc.lock", "metrics.json", "tuned.json", "decision.yaml", "manifest.yaml")
}
OF_ITS_DATA = {
    f"data/{DATASET}/{name}" for name in ("partitions.dvc", ".gitignore", "dvc.lock", "report.json")
}
PLOTS = f"models/{MODEL}/plots/"


def test_the_first_release_is_recorded_delivered_and_audited(new_work: Workplace) -> None:
    work = new_work
    (work.top / "notes.txt").write_text("a person's own, staged and in no commit")
    work.git("add", "notes.txt")
    before = work.head()
    work.run("ingest", DATASET)
    work.run("retrain", MODEL)

    assert work.subjects(before) == [f"Release {MODEL} 1.0.0"]
    assert {path for path in work.files_of() if not path.startswith(PLOTS)} == OF_A_RELEASE | OF_ITS_DATA
    assert work.git("status", "--short") == "A  notes.txt"
    manifest = work.read_yaml(f"models/{MODEL}/manifest.yaml")
    trailers = work.trailers()
    assert set(trailers) == {"Model", "Version", "Dataset", "Decision", "Digest", "Lock", "Triggered-By"}
    assert trailers["Dataset"] == f"{DATASET} {manifest['dataset']['md5']}"
    assert trailers["Triggered-By"] == "Kim <kim@example.org> (person, claimed)"
    assert manifest["code"] == before
    assert work.tags() == {f"{MODEL}@v1.0.0": f"Release {MODEL} 1.0.0"}
    assert work.pushed() == work.head()

    work.run("deliver", MODEL)
    assert work.slots == {"stable": "1.0.0", "candidate": None}
    assert work.weights() == {"1.0.0": 100}
    assert work.tags()[f"{MODEL}#local#1"] == f"Release {MODEL} 1.0.0"
    assert work.pushed() == work.head()
    (audit,) = work.run("audit", MODEL, "--json").json["found"]
    assert audit["serving"]["version"] == "1.0.0"
    life = work.run("audit", MODEL, "--history", "--json").json["found"]
    assert [deed["action"] for deed in life] == ["release", "candidate", "promoted"]
    assert f"{MODEL} 1.0.0 in local" in work.run("audit", MODEL).out
    with asking(work.url, work.top / LOANS) as users:
        users.await_requests(50)
    assert set(users.answers) == {("1.0.0", 200)}


def test_nothing_new_and_an_edit_of_the_rollout_retrain_nothing(work: Workplace) -> None:
    before = work.head()
    told = work.run("retrain", MODEL).out
    assert f"Nothing changed since the last decision about {MODEL}" in told
    assert work.head() == before

    work.edit(MODEL_YAML, "stages: [30, 60]", "stages: [20, 40]")
    work.commit("Smaller steps")
    before = work.head()
    assert work.run("retrain", MODEL, "--json").json["changed"] is False
    assert work.head() == before == work.pushed()


def test_with_the_git_remote_gone_the_data_is_safe_and_the_next_run_pushes(
    work: Workplace, tmp_path: Path
) -> None:
    remote, away = work.top / ".coalmine/remotes/git.git", tmp_path / "away.git"
    work.edit(MODEL_YAML, LINEAR, f"{LINEAR}  params: {{C: 0.5}}\n")
    work.commit("Less trust in single numbers")
    remote.rename(away)
    failed = work.run("retrain", MODEL, status=RemoteUnavailable.exit_code)
    assert "The Git remote `origin`" in failed.err

    files = work.read_yaml(f"models/{MODEL}/manifest.yaml")["files"]
    assert [Path(file["path"]).name for file in files] == ["model.skops", "plan.json", "reference.json"]
    for file in files:
        assert (work.top / ".coalmine/remotes/dvc/files/md5" / file["md5"][:2] / file["md5"][2:]).is_file()
    away.rename(remote)
    recorded = work.head()
    assert work.pushed() != recorded
    work.run("retrain", MODEL)
    assert work.pushed() == work.head() == recorded
    assert f"{MODEL}@v1.2.1" not in work.tags()  # an estimator's parameters are no patch
    assert f"{MODEL}@v1.3.0" in work.tags()


def test_a_kept_champion_is_recorded_with_its_reasons(work: Workplace) -> None:
    work.edit(MODEL_YAML, LINEAR, "estimator:\n  class: sklearn.dummy.DummyClassifier\n")
    work.commit("Guess")
    before, tags = work.head(), work.tags()
    told = work.run("retrain", MODEL)

    assert "The champion stays: 1.2.0." in told.out
    assert work.subjects(before) == [f"Keep {MODEL} 1.2.0"]
    assert f"models/{MODEL}/manifest.yaml" not in work.files_of()
    decision = work.read_yaml(f"models/{MODEL}/decision.yaml")
    assert decision["version"] is None
    assert any("roc_auc" in reason for reason in decision["decision"]["reasons"])
    assert work.trailers()["Decision"] == "keep"
    assert work.tags() == tags
    assert work.pushed() == work.head()
    life = work.run("audit", MODEL, "--history", "--json").json["found"]
    assert life[-1]["action"] == "keep"
    assert work.run("retrain", MODEL, "--json").json["changed"] is False


def test_new_features_are_a_major_release_which_only_a_person_may_ask_for(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.edit(MODEL_YAML, "  - age\n", "")
    work.commit("Age must not decide")
    before, tags = work.head(), work.tags()

    monkeypatch.setattr(sys, "path", [*sys.path])  # opening a workspace makes its modules importable
    nightly = Trigger(kind="schedule", who="nightly")
    kept = retrain(Workspace.open(work.top), MODEL, nightly, lambda _: None)
    assert kept.outcome is Outcome.KEEP
    assert "needs a person" in kept.reasons[0]
    assert work.subjects(before) == [f"Keep {MODEL} 1.2.0"]
    assert work.tags() == tags

    again = retrain(Workspace.open(work.top), MODEL, nightly, lambda _: None)
    assert not again.changed
    released = work.run("retrain", MODEL, "--json").json
    assert released["version"] == "2.0.0"
    assert f"{MODEL}@v2.0.0" in work.tags()
