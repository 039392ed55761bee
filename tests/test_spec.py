"""Files that people write: each fault is named with its place and its remedy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from coalmine.errors import SpecError
from coalmine.spec import DatasetSpec, GateSpec, ModelSpec, parse_spec

MODEL: dict[str, Any] = {
    "name": "late",
    "dataset": "flights",
    "task": "binary",
    "target": "late",
    "features": ["distance"],
    "split": {},
    "estimator": {"class": "sklearn.linear_model.LogisticRegression"},
    "tuning": None,
    "evaluation": {"metrics": ["roc_auc"]},
}
DATASET: dict[str, Any] = {
    "name": "flights",
    "source": {"files": "flights.csv"},
    "columns": {"carrier": {"type": "string"}, "distance": {"type": "number"}},
}


def with_(content: dict[str, Any], path: str, value: Any) -> str:
    """`content` as YAML, with `value` at the dotted `path`."""
    content = copy.deepcopy(content)
    *folders, last = path.split(".")
    place = content
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        pytest.param("featurs", [], "unknown key `featurs`: did you mean `features`?", id="misspelt key"),
        pytest.param("rollout.stage", [5], "unknown key `rollout.stage`: did you mean `stages`?", id="inner"),
        pytest.param("evaluation.slices.colums", [], "did you mean `columns`?", id="key two levels down"),
        pytest.param("quux", 1, "unknown key `quux`: known here: schema_version, name", id="no near key"),
        pytest.param("features", ["late"], "the model would be told the answer", id="target among features"),
        pytest.param("features", ["a", "a"], "names a column twice", id="feature twice"),
        pytest.param("task", "guess", "should be 'binary', 'multiclass' or 'regression'", id="task"),
        pytest.param("name", "Late Flights", "`name`", id="name that no tag takes"),
        pytest.param("rollout.stages", [25, 5], "weights that grow", id="weights go down"),
        pytest.param("rollout.stages", [50, 100], "between 1 and 99", id="a stage at 100"),
        pytest.param("rollout.stages", [], "weights that grow", id="no stage"),
        pytest.param("rollout.bake_s", 0, "`rollout.bake_s`", id="bake of zero"),
        pytest.param("rollout.gates", [], "at least one gate", id="no gate"),
        pytest.param("rollout.gates", [{"gate": "speed"}], "'errors' or 'latency'", id="unknown gate"),
        pytest.param("split.test_share", 1.0, "`split.test_share`", id="all rows in the test"),
    ],
)
def test_a_fault_in_model_yaml_is_named_with_its_remedy(path: str, value: Any, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(ModelSpec, with_(MODEL, path, value), "models/late/model.yaml")
    assert str(refused.value).startswith("models/late/model.yaml: ")
    assert said in str(refused.value)


@pytest.mark.parametrize("key", ["split", "tuning", "evaluation", "estimator"])
def test_a_key_that_dvc_watches_must_be_there(key: str) -> None:
    content = {name: value for name, value in MODEL.items() if name != key}
    with pytest.raises(SpecError, match=f"`{key}` is missing"):
        parse_spec(ModelSpec, yaml.safe_dump(content), "model.yaml")


def test_every_fault_is_named_at_once() -> None:
    content = yaml.safe_load(with_(MODEL, "featurs", [])) | {"task": "guess"}
    with pytest.raises(SpecError) as refused:
        parse_spec(ModelSpec, yaml.safe_dump(content), "model.yaml")
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["a: [", "- a", "just words"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"model\.yaml"):
        parse_spec(ModelSpec, text, "model.yaml")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        pytest.param("columns.carrier.minimum", 1, "are for numbers", id="minimum of texts"),
        pytest.param("columns.carrier.values", ["DE", False], "must be quoted", id="YAML's no among texts"),
        pytest.param("key", ["flight"], "column `flight` is named but not described", id="key, no column"),
        pytest.param("period", "month", "needs `time`", id="period without time"),
        pytest.param("source", {}, "exactly one of `python` and `files`", id="no source"),
        pytest.param("columns.distance.typ", "x", "did you mean `type`?", id="misspelt in a column"),
    ],
)
def test_a_fault_in_dataset_yaml_is_named_with_its_remedy(path: str, value: Any, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(DatasetSpec, with_(DATASET, path, value), "data/flights/dataset.yaml")
    assert said in str(refused.value)


def test_what_counts_as_fast_is_for_the_latency_gate_alone() -> None:
    assert GateSpec(gate="latency", fast_ms=5).fast_ms == 5
    with pytest.raises(ValidationError, match="`fast_ms` is for the gate `latency`"):
        GateSpec(gate="errors", fast_ms=5)
