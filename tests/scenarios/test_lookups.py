"""A model that looks data up: both datasets come in, are released and audited together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coalmine.scaffold.repository import new_dataset
from tests.scenarios.lending import LOANS, MODEL_YAML
from tests.scenarios.workplace import DATASET, MODEL, Workplace

TOWNS = "towns"
STAGES = f"models/{MODEL}/dvc.yaml"
OF_THE_LOOKUP = {
    f"data/{TOWNS}/{name}" for name in ("partitions.dvc", ".gitignore", "dvc.lock", "report.json")
}


@pytest.fixture
def looking_up(new_work: Workplace) -> Workplace:
    """Loans have a town, and the model learns from the towns' rents, which another file has."""
    work = new_work
    towns = np.random.default_rng(1).choice(["Bern", "Ulm", "Wien"], 800)
    head, *lines = (work.top / LOANS).read_text().splitlines()
    loans = [f"{town},{line}" for town, line in zip(towns, lines, strict=True)]
    (work.top / LOANS).write_text("\n".join([f"town,{head}", *loans, ""]))
    described = "  income:"
    work.edit(f"data/{DATASET}/dataset.yaml", described, f"  town: {{type: string}}\n{described}")
    write_towns(work.top, {"Bern": 21.5, "Ulm": 11, "Wien": 14})
    new_dataset(work.top, TOWNS, str(work.top / "towns.csv"))
    work.edit(MODEL_YAML, "  - income\n", "  - rent\n  - income\n")
    lookups = f"lookups:\n  - {{dataset: {TOWNS}, key: [town], columns: [rent]}}\n"
    work.edit(MODEL_YAML, "estimator:\n", f"{lookups}estimator:\n")
    return work


def write_towns(top: Path, rents: dict[str, float]) -> None:
    (top / "towns.csv").write_text(
        "".join(["town,rent\n", *(f"{town},{rent}\n" for town, rent in rents.items())])
    )


def watch_the_lookup(work: Workplace) -> None:
    files = "".join(
        f"      - data/{TOWNS}/{name}\n" for name in ("dataset.yaml", "partitions", "report.json")
    )
    own = "      - data/${dataset}/report.json\n"
    work.edit(STAGES, own, own + files)
    work.edit(
        STAGES,
        "[dataset, task, target, features, split]",
        "[dataset, task, target, features, lookups, split]",
    )


def test_a_lookup_is_taken_in_trained_on_and_released_with_the_model(looking_up: Workplace) -> None:
    work = looking_up
    work.commit("Rents")
    refused = work.run("retrain", MODEL, "--data", "next", status=2)
    assert f"- data/{TOWNS}/partitions" in refused.err
    watch_the_lookup(work)
    work.commit("Rents, watched by DVC")

    told = work.run("retrain", MODEL, "--data", "next").out
    assert f"{TOWNS}: all ingested." in told
    assert f"data/{TOWNS}: validate done." in told
    assert work.files_of() >= OF_THE_LOOKUP
    manifest = work.read_yaml(f"models/{MODEL}/manifest.yaml")
    assert [each["name"] for each in manifest["features"]] == ["rent", "income", "age", "debt"]
    assert [each["name"] for each in manifest["inputs"]] == ["income", "age", "debt", "town"]
    assert set(manifest["example"]["inputs"]) == {"income", "age", "debt", "town"}
    (table,) = manifest["lookups"]
    assert (table["key"], table["missing"]) == (["town"], "refuse")
    assert table["columns"] == [{"name": "rent", "datatype": "FP64", "nullable": False}]
    pointer = work.read_yaml(f"data/{TOWNS}/partitions.dvc")["outs"][0]
    assert table["md5"] == pointer["md5"]
    (file,) = table["files"]
    assert file["path"] == f"data/{TOWNS}/partitions/all.parquet"
    assert (work.top / ".coalmine/remotes/dvc/files/md5" / file["md5"][:2] / file["md5"][2:]).is_file()
    datasets = {
        name: work.read_yaml(f"data/{name}/partitions.dvc")["outs"][0]["md5"] for name in (DATASET, TOWNS)
    }
    assert work.trailers()["Dataset"] == ", ".join(f"{name} {digest}" for name, digest in datasets.items())
    assert work.git("status", "--short") == ""
    assert work.run("retrain", MODEL, "--json").json["changed"] is False

    new_rents_alone_are_a_patch(work)


def new_rents_alone_are_a_patch(work: Workplace) -> None:
    write_towns(work.top, {"Bern": 22.5, "Ulm": 11.5, "Wien": 14.5})
    work.run("ingest", TOWNS, "all", "--replace")
    work.edit(MODEL_YAML, "gain: -0.1", "gain: -0.2")
    work.commit("A wider gain, which shapes no model")
    recorded = work.run("retrain", MODEL, "--json").json
    assert recorded["changed"] is True
    assert recorded["version"] == "1.0.1"


def test_a_key_that_the_lookup_lacks_stops_the_training(looking_up: Workplace) -> None:
    work = looking_up
    write_towns(work.top, {"Bern": 21.5, "Wien": 14})
    watch_the_lookup(work)
    work.commit("Rents, not of every town")
    before = work.head()
    refused = work.run("retrain", MODEL, "--data", "all", status=2)
    assert f"rows have a key that data/{TOWNS} does not have, such as town Ulm" in refused.err
    assert work.head() == before


def test_partitions_that_are_not_those_recorded_are_not_released(looking_up: Workplace) -> None:
    work = looking_up
    watch_the_lookup(work)
    work.commit("Rents")
    work.run("ingest", TOWNS)
    pointer = work.top / f"data/{TOWNS}/partitions.dvc"
    recorded = pointer.read_text()
    write_towns(work.top, {"Bern": 1, "Ulm": 2, "Wien": 3})
    work.run("ingest", TOWNS, "all", "--replace")
    pointer.write_text(recorded)
    refused = work.run("retrain", MODEL, "--data", "none", status=2)
    assert "holds no data yet" in refused.err
    work.run("ingest", DATASET)
    refused = work.run("retrain", MODEL, status=6)
    assert f"data/{TOWNS}/partitions does not hold what" in refused.err
    assert work.tags() == {}
