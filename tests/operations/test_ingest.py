"""What a retraining takes in: the model's dataset and those that it looks up, by the same word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.operations.ingest import NewData, wanted_of
from coalmine.spec import ModelSpec

PERIODS = {"sales": "month", "weather": "month", "shops": "none", "holidays": "year"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, period in PERIODS.items():
        spec: dict[str, Any] = {"name": name, "source": {"files": "x.csv"}, "period": period, "time": "at"}
        (tmp_path / "data" / name).mkdir(parents=True)
        text = yaml.safe_dump({**spec, "columns": {"at": {"type": "datetime"}}})
        (tmp_path / "data" / name / "dataset.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def spec() -> ModelSpec:
    lookups = [{"dataset": name, "key": ["k"], "columns": [name]} for name in PERIODS if name != "sales"]
    return ModelSpec.model_validate(
        {
            "name": "seller",
            "dataset": "sales",
            "task": "regression",
            "target": "sold",
            "features": ["weather"],
            "lookups": lookups,
            "split": {},
            "estimator": {"class": "sklearn.linear_model.LinearRegression"},
            "tuning": None,
            "evaluation": {"metrics": ["mae"]},
        }
    )


@pytest.mark.parametrize("data", [NewData.NEXT, NewData.ALL])
def test_the_same_word_goes_for_all(repository: Path, spec: ModelSpec, data: NewData) -> None:
    assert wanted_of(repository, spec, data) == dict.fromkeys(PERIODS, data)


def test_names_go_for_those_that_are_cut_by_the_same_period(repository: Path, spec: ModelSpec) -> None:
    months = ["2013-01", "2013-02"]
    assert wanted_of(repository, spec, months) == {
        "sales": months,
        "weather": months,
        "shops": NewData.NONE,
        "holidays": NewData.NONE,
    }
