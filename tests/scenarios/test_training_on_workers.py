"""The example models, tuned and trained on one core and on two workers of Dask: the same to the byte."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from coalmine.scaffold.repository import init
from tests.pipelines.dask_processes import dask_cluster
from tests.scenarios.workplace import Workplace

MODELS = {
    "credit-risk": (
        [("german-credit",)],
        {
            "metric": "log_loss",
            "budget": 12,
            "folds": 5,
            "search": {
                "classifier__C": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
                "classifier__max_iter": [500, 1000],
            },
        },
    ),
    "flight-delays": (
        [("flights", "2013-01", "2013-02", "2013-03"), ("weather", "2013-01", "2013-02", "2013-03")],
        {
            "metric": "log_loss",
            "budget": 6,
            "folds": 3,
            "search": {
                "classifier__learning_rate": [0.03, 0.06, 0.12],
                "classifier__max_leaf_nodes": [7, 15],
            },
        },
    ),
}
MADE = ("tuned.json", "model.skops")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_one_core_and_two_workers_give_the_same_model(model: str, tmp_path: Path) -> None:
    datasets, tuning = MODELS[model]
    init(tmp_path / "shop", examples=(model,))
    work = Workplace(tmp_path / "shop")
    for words in datasets:
        work.run("ingest", *words)
    spec = tmp_path / f"shop/models/{model}/model.yaml"
    content = yaml.safe_load(spec.read_text())
    spec.write_text(yaml.safe_dump({**content, "tuning": tuning}, sort_keys=False))
    work.commit("Tuned")
    released = work.run("retrain", model, "--json").json
    assert released["version"] == "1.0.0"
    here, one_s = _again(work, model, {})

    text = spec.read_text()
    spec.write_text(f"{text}training: {{engine: dask}}\n")
    work.commit("Trained by Dask")
    assert work.run("retrain", model, "--json").json["changed"] is False  # no stage depends on the engine
    with dask_cluster(tmp_path / "dask") as cluster:
        there, two_s = _again(work, model, {"COALMINE_DASK_SCHEDULER": cluster.address})

    print(f"{model}: one core {one_s:.1f} s, two workers {two_s:.1f} s, {here['model.skops'][:12]}")
    assert there == here
    manifest = yaml.safe_load((spec.parent / "manifest.yaml").read_text())
    recorded = {Path(file["path"]).name: file["sha256"] for file in manifest["files"]}
    assert there["model.skops"] == recorded["model.skops"]


def _again(work: Workplace, model: str, environment: dict[str, str]) -> tuple[dict[str, str], float]:
    """The digests of what tuning and training make, and how many seconds both take."""
    began = time.monotonic()
    for stage in ("tune", "train"):
        subprocess.run(
            [sys.executable, "-m", f"pipelines.{stage}", f"models/{model}"],
            cwd=work.top,
            env={**os.environ, **environment},
            check=True,
        )
    took_s = time.monotonic() - began
    folder = work.top / "models" / model
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MADE}, took_s
