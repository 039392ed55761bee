"""What `lookups` of model.yaml may say, checked before a row is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.datasets.lookups import datasets_of, request_inputs, require_lookups
from coalmine.errors import SpecError
from coalmine.spec import ModelSpec

DATASETS: dict[str, dict[str, Any]] = {
    "sales": {
        "at": {"type": "datetime"},
        "shop": {"type": "string"},
        "day": {"type": "integer"},
        "weight": {"type": "number"},
        "sold": {"type": "integer"},
    },
    "shops": {
        "shop": {"type": "string"},
        "opened": {"type": "datetime"},
        "area": {"type": "number", "missing": 0.1},
        "weight": {"type": "number"},
        "sold": {"type": "integer"},
        "day": {"type": "string"},
    },
    "holidays": {
        "day": {"type": "integer"},
        "shop": {"type": "string", "missing": 0.1},
        "school": {"type": "boolean"},
        "area": {"type": "string"},
    },
}
SHOPS = {"dataset": "shops", "key": ["shop"], "columns": ["area"]}
HOLIDAYS = {"dataset": "holidays", "key": ["day"], "columns": ["school"]}
FILES = ("dataset.yaml", "partitions", "report.json")


def model(*lookups: dict[str, Any], features: tuple[str, ...] = ("weight", "area")) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "seller",
            "dataset": "sales",
            "task": "regression",
            "target": "sold",
            "features": list(features),
            "lookups": list(lookups),
            "split": {},
            "estimator": {"class": "sklearn.linear_model.LinearRegression"},
            "tuning": None,
            "evaluation": {"metrics": ["mae"]},
        }
    )


def write_stages(top: Path, deps: list[str], keys: list[str]) -> None:
    stage = {"deps": ["pipelines/prepare.py", *deps], "params": [{"models/${name}/model.yaml": keys}]}
    path = top / "models/seller/dvc.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"stages": {"prepare": stage}}))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name, columns in DATASETS.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        text = yaml.safe_dump({"name": name, "source": {"files": "x.csv"}, "columns": columns})
        (tmp_path / "data" / name / "dataset.yaml").write_text(text)
    names = ("shops", "holidays")
    write_stages(tmp_path, [f"data/{name}/{file}" for name in names for file in FILES], ["target", "lookups"])
    return tmp_path


def test_lookups_that_fit_give_their_datasets(top: Path) -> None:
    found = require_lookups(top, model(SHOPS, HOLIDAYS))
    assert {name: set(spec.columns) for name, spec in found.items()} == {
        "shops": set(DATASETS["shops"]),
        "holidays": set(DATASETS["holidays"]),
    }


def test_a_model_without_lookups_needs_nothing(tmp_path: Path) -> None:
    assert require_lookups(tmp_path, model(features=("weight",))) == {}


def test_a_request_brings_features_and_keys_and_not_what_lookups_add() -> None:
    spec = model(HOLIDAYS, SHOPS, features=("area", "weight", "school", "shop"))
    assert request_inputs(spec) == ("weight", "shop", "day")
    assert request_inputs(model(features=("weight", "shop"))) == ("weight", "shop")


def test_a_release_is_made_of_the_models_own_dataset_first_and_each_once() -> None:
    again = {**SHOPS, "columns": ["opened"]}
    assert datasets_of(model(SHOPS, HOLIDAYS, again)) == ("sales", "shops", "holidays")


@pytest.mark.parametrize(
    ("lookup", "said"),
    [
        ({**SHOPS, "dataset": "shop"}, "dataset `shop`, which does not exist: did you mean `shops`"),
        ({**SHOPS, "key": ["shopp"]}, "`shopp` in its `key`.*data/sales does not have: did you mean `shop`"),
        ({**SHOPS, "key": ["at"]}, "`at` in its `key`, which is datetime in data/sales"),
        ({**HOLIDAYS, "key": ["day", "weight"]}, "`weight` in its `key`, which is number in data/sales"),
        ({**SHOPS, "key": ["day"]}, "`day` is integer in data/sales and string in data/shops"),
        ({**HOLIDAYS, "key": ["shop"]}, "`shop` may be missing in data/holidays"),
        ({**HOLIDAYS, "key": ["sold"]}, "data/holidays does not have"),
        ({**SHOPS, "columns": ["aera"]}, "adds `aera`, a column that it does not have: did you mean `area`"),
        ({**SHOPS, "columns": ["weight"]}, "has a `weight` from data/sales already"),
        ({**SHOPS, "columns": ["shop"]}, "has a `shop` from data/sales already"),
        ({**HOLIDAYS, "columns": ["area"]}, "has a `area` from data/shops, by another lookup already"),
        ({**SHOPS, "columns": ["opened"]}, "adds `opened`, a datetime"),
        ({**HOLIDAYS, "columns": ["school", "school"]}, "adds a column twice"),
    ],
    ids=[
        "dataset",
        "key that the rows lack",
        "key of times",
        "key of numbers",
        "types that differ",
        "key that may be missing",
        "key that the lookup lacks",
        "column that the lookup lacks",
        "column that the rows have",
        "column of the key",
        "column of two lookups",
        "column of times",
        "column twice",
    ],
)
def test_a_lookup_that_cannot_be_joined_is_refused(top: Path, lookup: dict[str, Any], said: str) -> None:
    others = () if lookup["dataset"].startswith("shop") else (SHOPS,)
    with pytest.raises(SpecError, match=rf"models/seller/model\.yaml: .*{said}"):
        require_lookups(top, model(*others, lookup))


@pytest.mark.parametrize("absent", FILES)
def test_a_file_that_dvc_would_not_watch_is_named_with_the_line_to_add(top: Path, absent: str) -> None:
    watched = [f"data/{name}/{file}" for name in ("shops", "holidays") for file in FILES]
    watched.remove(f"data/holidays/{absent}")
    write_stages(top, watched, ["lookups"])
    with pytest.raises(SpecError) as refused:
        require_lookups(top, model(SHOPS, HOLIDAYS))
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("models/seller/dvc.yaml: the stage `prepare` does not depend on all")
    assert lines[1:] == [f"  under `deps`:   - data/holidays/{absent}"]


def test_lookups_that_dvc_would_not_watch_are_refused(top: Path) -> None:
    write_stages(top, [f"data/shops/{file}" for file in FILES], ["target", "features"])
    with pytest.raises(SpecError, match=r"under `params`, among the keys of model\.yaml:   lookups"):
        require_lookups(top, model(SHOPS))


@pytest.mark.parametrize("text", [None, "stages: {}", "- a list", "stages: {prepare: {cmd: x}}", "a: ["])
def test_stages_that_cannot_be_read_are_named(top: Path, text: str | None) -> None:
    path = top / "models/seller/dvc.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecError, match="no stage `prepare` that can be read"):
        require_lookups(top, model(SHOPS))
