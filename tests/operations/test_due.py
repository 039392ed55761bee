"""A stable release that got worse, or is asked about other things: looked at again and again."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from coalmine.durable import replace_bytes
from coalmine.errors import SpecError, TelemetryUnavailable
from coalmine.evaluation.predictions import Predictions
from coalmine.evaluation.reference import counting, dump_reference, reference_of
from coalmine.manifest import Estimate, Manifest, ReleaseFile, dump_manifest, manifest_path
from coalmine.operations import due as module
from coalmine.operations.due import Due, due
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.workspace import Workspace
from coalmine.rollout.evidence import Answers
from coalmine.scaffold.repository import init
from coalmine.slots import Slot, SlotRelease, Slots, dump_slots, slots_path
from coalmine.spec import ModelSpec, Task, load_model_spec
from tests.journals.fake_rollouts import make_manifest

MODEL = "flight-delays"
MODEL_YAML = Path("models") / MODEL / "model.yaml"
ASKED = "retrain:\n  on_quality: {margin: 0.01}\n"
DRIFT = "retrain:\n  on_drift: {period_days: 1}\n"
LEARNT = np.arange(20_000) % 100
REFERENCE = reference_of(
    {"temp": LEARNT}, Predictions(Task.BINARY, {"probability": np.arange(20_000) / 20_000}, (0, 1))
)
DAY_S = 86_400.0
BRIER = Estimate(value=0.15, low=0.14, high=0.16)  # so that 0.17 by label is the limit


class Watching(LocalEnvironment):
    """An environment whose servers have counted `found`, or cannot be read."""

    found: Mapping[str, Answers] | TelemetryUnavailable

    def answers(self, _spec: ModelSpec, _slot: Slot) -> Mapping[str, Answers]:
        if isinstance(self.found, TelemetryUnavailable):
            raise self.found
        return self.found


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """1.1.0 is stable in `local`, and model.yaml asks for its quality to be watched."""
    init(tmp_path / "work", examples=(MODEL,))
    workspace = Workspace.open(tmp_path / "work")
    model = workspace.top / MODEL_YAML
    model.write_text(model.read_text() + ASKED)
    release_stable(workspace, "1.1.0")
    monkeypatch.setattr(module, "open_environment", Watching)
    return workspace


def manifest_of(version: str) -> Manifest:
    made = make_manifest(version)
    decision = made.decision.model_copy(update={"metrics": {"brier": BRIER}})
    files = (*made.files, reference_file())
    return made.model_copy(update={"model": MODEL, "decision": decision, "files": files})


def reference_file() -> ReleaseFile:
    content = dump_reference(REFERENCE).encode()
    return ReleaseFile(
        path=f"models/{MODEL}/reference.json",
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),
        size_bytes=len(content),
    )


def release_stable(workspace: Workspace, version: str) -> None:
    manifest = manifest_of(version)
    commit(workspace, {manifest_path(MODEL): dump_manifest(manifest)})
    git(workspace, "tag", f"{MODEL}@v{version}")
    held = SlotRelease(version=version, commit=workspace.repository.head(), model_digest=manifest.digest)
    slots = Slots(environment="local", model=MODEL, stable=Slot.BLUE, releases={Slot.BLUE: held})
    commit(workspace, {slots_path("local", MODEL): dump_slots(slots)})


def commit(workspace: Workspace, files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        replace_bytes(workspace.top / path, text.encode())
    git(workspace, "add", "--all")
    git(workspace, "commit", "--quiet", "--message", "As coalmine does")


def git(workspace: Workspace, *words: str) -> None:
    subprocess.run(["git", *words], cwd=workspace.top, check=True)


def look(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, found: object) -> Due:
    monkeypatch.setattr(Watching, "found", found, raising=False)
    (model,) = due(workspace).models
    return model


def counted(labels: int, loss: float, started: str = "1.0") -> dict[str, Answers]:
    return {started: Answers(started, (), labels, loss)}


def test_what_loses_as_much_as_it_was_said_to_is_not_due(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for labels in range(500, 20_000, 500):
        found = look(workspace, monkeypatch, counted(labels, 0.16 * labels))
        assert found.causes == ()
    assert "it lost 0.16 by label" in found.notes[-1]
    assert "its evaluation said 0.14 to 0.16, and 0.17 is the limit" in found.notes[-1]


def test_what_loses_more_than_the_limit_is_due_and_stays_so_until_another_release_is_stable(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(workspace, monkeypatch, counted(1000, 160.0)).causes == ()
    (cause,) = look(workspace, monkeypatch, counted(3000, 160.0 + 2000 * 0.3)).causes
    assert cause.kind == "quality"
    assert cause.who == f"the labels of {MODEL} 1.1.0 in local"
    assert cause.trigger(None).proof == "unknown"
    assert "in 3,000 labels" in cause.because
    (again,) = look(workspace, monkeypatch, counted(3000, 160.0 + 2000 * 0.3)).causes
    assert again.key == cause.key  # the same day
    assert look(workspace, monkeypatch, counted(300_000, 300_000 * 0.1)).causes

    release_stable(workspace, "1.2.0")
    fresh = look(workspace, monkeypatch, counted(10, 1.6, started="2.0"))
    assert fresh.causes == ()
    assert "in 10 labels" in fresh.notes[-1]


def test_a_server_that_starts_anew_and_one_that_is_away_take_nothing_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(workspace, monkeypatch, counted(1000, 160.0))
    away = look(workspace, monkeypatch, TelemetryUnavailable("its server gives no /metrics"))
    assert (away.causes, away.notes[-1]) == ((), "its server gives no /metrics")
    found = look(workspace, monkeypatch, counted(500, 80.0, started="2.0"))
    assert "in 1,500 labels" in found.notes[-1]


def test_a_look_that_is_killed_before_it_is_kept_counts_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(workspace, monkeypatch, counted(1000, 160.0))

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("coalmine.durable.os.replace", killed)
        with pytest.raises(Killed):
            look(workspace, monkeypatch, counted(1500, 240.0))
    assert "in 1,500 labels" in look(workspace, monkeypatch, counted(1500, 240.0)).notes[-1]


def test_a_release_without_the_metric_says_that_its_labels_show_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = manifest_of("1.2.0")
    bare = bare.model_copy(update={"decision": bare.decision.model_copy(update={"metrics": {}})})
    monkeypatch.setitem(globals(), "manifest_of", lambda _: bare)
    release_stable(workspace, "1.2.0")
    found = look(workspace, monkeypatch, counted(1000, 900.0))
    assert (found.causes, "no `brier` in its manifest" in found.notes[-1]) == ((), True)


# --- by a shift ------------------------------------------------------------------------


@pytest.fixture
def drifting(workspace: Workspace) -> Workspace:
    """model.yaml asks for shifts in place of lost quality, and the reference is in DVC's cache."""
    file = workspace.top / MODEL_YAML
    file.write_text(file.read_text().replace(ASKED, DRIFT))
    md5 = reference_file().md5
    replace_bytes(
        workspace.top / ".dvc/cache/files/md5" / md5[:2] / md5[2:], dump_reference(REFERENCE).encode()
    )
    return workspace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    began_s = time.time()

    def set_to(days: float) -> None:
        monkeypatch.setattr(module.time, "time", lambda: began_s + days * DAY_S)

    return set_to


def asked_about(days: int, warmer: int, started: str = "1.0") -> dict[str, Answers]:
    """What a server has counted after so many days of 1,000 requests each."""
    temp, score = map(counting, REFERENCE.distributions)
    rows, scores = LEARNT[: 1000 * days] + warmer, np.tile(np.arange(1000) / 1000, days)
    return {
        started: Answers(started, binned={"feature temp": temp(rows), "score probability": score(scores)})
    }


def test_what_is_asked_other_things_than_it_was_made_of_is_due_until_another_release_is_stable(
    drifting: Workspace, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    first = look(drifting, monkeypatch, asked_about(1, warmer=40))
    assert first.causes == ()
    assert "1,000 requests in the first period of 1 days" in first.notes[-1]
    clock(1.1)
    assert look(drifting, monkeypatch, asked_about(1, warmer=40)).causes == ()
    clock(2.1)
    (cause,) = look(drifting, monkeypatch, asked_about(2, warmer=40)).causes
    assert (cause.kind, cause.trigger(None).proof) == ("drift", "unknown")
    assert cause.who == f"the requests to {MODEL} 1.1.0 in local"
    assert (
        f"{MODEL} 1.1.0 in local: shifted against what it was made of: feature `temp` by 0.4" in cause.because
    )
    assert "`probability`" not in cause.because
    (again,) = look(drifting, monkeypatch, asked_about(2, warmer=40)).causes
    assert again.key == cause.key  # the same day
    clock(3.1)
    (next_day,) = look(drifting, monkeypatch, asked_about(2, warmer=40)).causes
    assert next_day.key != cause.key

    release_stable(drifting, "1.2.0")
    fresh = look(drifting, monkeypatch, asked_about(1, warmer=40, started="2.0"))
    assert fresh.causes == ()
    assert "1,000 requests in the first period" in fresh.notes[-1]


def test_what_is_asked_what_it_was_made_of_is_not_due(
    drifting: Workspace, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    for day in range(1, 6):
        clock(day + 0.01 * day)
        found = look(drifting, monkeypatch, asked_about(day, warmer=2))
        assert found.causes == ()
    assert "no shift is shown; the furthest is feature `temp` by 0.0" in found.notes[-1]


def test_whoever_moves_the_tolerance_begins_the_test_anew(
    drifting: Workspace, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    for day in (1, 2, 3):
        clock(day + 0.1)
        found = look(drifting, monkeypatch, asked_about(day, warmer=40))
    assert found.causes
    file = drifting.top / MODEL_YAML
    file.write_text(file.read_text().replace("{period_days: 1}", "{period_days: 1, tolerance: 0.2}"))
    found = look(drifting, monkeypatch, asked_about(3, warmer=40))
    assert (found.causes, "0 requests in the first period" in found.notes[-1]) == ((), True)


def test_a_release_from_before_there_were_references_says_so(
    drifting: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = manifest_of("1.2.0")
    bare = bare.model_copy(update={"files": bare.files[:1]})
    monkeypatch.setitem(globals(), "manifest_of", lambda _: bare)
    release_stable(drifting, "1.2.0")
    found = look(drifting, monkeypatch, counted(0, 0.0))
    assert found.causes == ()
    assert "keeps no distribution of what it was made of" in found.notes[-1]


def test_a_reference_that_nobody_has_or_that_was_changed_is_told(
    drifting: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    md5 = reference_file().md5
    cached = drifting.top / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.write_text("{}")
    cached.chmod(0o444)
    assert "is not what was released" in look(drifting, monkeypatch, asked_about(1, warmer=0)).notes[-1]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param(
            "metrics: [roc_auc, log_loss, brier]", "metrics: [roc_auc, log_loss]", "add it", id="no brier"
        ),
        pytest.param("task: binary", "task: regression", "leave it out", id="a regression"),
        pytest.param("{margin: 0.01}", "{margn: 0.01}", "did you mean `margin`", id="a typing error"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_model_yaml(
    workspace: Workspace, old: str, new: str, says: str
) -> None:
    file = workspace.top / MODEL_YAML
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(SpecError, match=says):
        load_model_spec(workspace.top, MODEL)
