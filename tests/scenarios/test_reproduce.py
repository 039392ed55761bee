"""`dvc repro` by a data scientist in a fresh clone gives what the release has, to the byte."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tests.scenarios.workplace import DATASET, MODEL, Workplace

OUTPUTS = ("prepared", "tuned.json", "model.skops", "compiled", "metrics.json", "plots", "reference.json")


def test_a_fresh_clone_runs_nothing_after_a_pull_and_gives_the_same_bytes_when_it_must(
    work: Workplace, tmp_path: Path
) -> None:
    work.git("clone", "--quiet", str(work.top / ".coalmine/remotes/git.git"), str(tmp_path / "clone"))
    clone = Workplace(tmp_path / "clone")
    store = work.top / ".coalmine/remotes/dvc"
    clone.dvc("remote", "modify", "--local", "store", "url", str(store))
    clone.dvc("pull", "--quiet")
    untouched = clone.dvc("repro", "--all-pipelines").out
    assert "Running stage" not in untouched
    assert clone.git("status", "--short") == ""

    for name in OUTPUTS:
        output = clone.top / "models" / MODEL / name
        shutil.rmtree(output) if output.is_dir() else output.unlink()
    (clone.top / "data" / DATASET / "report.json").unlink()
    anew = clone.dvc("repro", "--all-pipelines", "--force", "--no-run-cache").out
    assert anew.count("Running stage") == 6
    # The locks, the metrics and the plots are in Git; the digests of the model's files in the manifest.
    assert clone.git("status", "--short") == ""
    for file in clone.read_yaml(f"models/{MODEL}/manifest.yaml")["files"]:
        assert hashlib.sha256((clone.top / file["path"]).read_bytes()).hexdigest() == file["sha256"]
