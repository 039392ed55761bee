"""Files that people write: each fault is named with its place and its remedy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from coalmine.errors import SpecError
from coalmine.rollout_spec import ErrorsSpec, LatencySpec
from coalmine.spec import DatasetSpec, ModelSpec, parse_spec

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
        pytest.param(
            "rollout.gates", [{"gate": "speed"}], "unknown gate `speed`: known here: errors", id="gate"
        ),
        pytest.param("rollout.gates", [{"gate": "latencie"}], "did you mean `latency`?", id="misspelt gate"),
        pytest.param("rollout.gates", [{"margin": 0.1}], "`rollout.gates.0.gate` is missing", id="no kind"),
        pytest.param(
            "rollout.gates",
            [{"gate": "latency", "marign": 0.1}],
            "unknown key `rollout.gates.0.marign`: did you mean `margin`?",
            id="misspelt key of a gate",
        ),
        pytest.param(
            "rollout.gates",
            [{"gate": "errors", "fast_ms": 5}],
            "unknown key `rollout.gates.0.fast_ms`",
            id="another gate's key",
        ),
        pytest.param(
            "rollout.gates", [{"gate": "errors", "margin": 2}], "`rollout.gates.0.margin`", id="margin of all"
        ),
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


QUERY: dict[str, Any] = {"gate": "query", "query": "sum(rate(x{slot='$slot'}[1m]))"}
APPROVAL: dict[str, Any] = {"gate": "approval"}
USERS: dict[str, Any] = {"header": "x-group", "value": "beta"}


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        pytest.param(
            {"gates": [{"gate": "predictions", "output": "label"}]}, "names the output `label`", id="output"
        ),
        pytest.param(
            {"gates": [{"gate": "errors", "worst_difference": 0.1}]},
            "`margin` 0.0025 lies inside of what is not rolled back",
            id="margin inside of the roll-back null",
        ),
        pytest.param({"gates": [QUERY | {"at_most": 1, "at_least": 2}]}, "no value is both", id="bounds"),
        pytest.param({"gates": [QUERY]}, "give a bound", id="query without a bound"),
        pytest.param({"gates": [QUERY | {"ratio": 2}]}, "add `against: stable`", id="ratio of what"),
        pytest.param(
            {"gates": [QUERY | {"against": "stable", "at_most": 1, "ratio": 2}]}, "takes a `ratio`", id="both"
        ),
        pytest.param(
            {"gates": [{"gate": "query", "query": "up", "against": "stable", "ratio": 2}]},
            "needs $slot",
            id="the same query for both slots",
        ),
        pytest.param(
            {"gates": [{"gate": "query", "query": "'a text'", "at_most": 1}]}, "returns text", id="text"
        ),
        pytest.param(
            {"gates": [{"gate": "query", "query": "up{x='$pod'}", "at_most": 1}]}, "names $pod", id="word"
        ),
        pytest.param({"gates": [{"gate": "webhook", "url": "ftp://x"}]}, "gates.0.url", id="webhook"),
        pytest.param({"gates": [APPROVAL]}, "asks nothing", id="an approval alone"),
        pytest.param(
            {"gates": [{"gate": "errors"}, APPROVAL | {"before": 30}]},
            "there is no such stage: give one of start, 5, 25, 50, bake",
            id="approval before a stage that does not exist",
        ),
        pytest.param(
            {"gates": [{"gate": "errors"}, APPROVAL | {"before": "noon"}]}, "give start, bake", id="moment"
        ),
        pytest.param(
            {"gates": [{"gate": "errors", "dry_run": True}]}, "at least one gate that is no", id="all dry"
        ),
        pytest.param({"gates": [{"gate": "errors"}] * 2}, "two gates are called `errors`", id="one name"),
        pytest.param(
            {"gates": [{"gate": "agreement"}, {"gate": "agreement", "name": "close", "tolerance": 0.01}]},
            "compared once, by one `tolerance`",
            id="two tolerances",
        ),
        pytest.param({"gates": [{"gate": "agreement"}]}, "without a shadow stage", id="agreement"),
        pytest.param(
            {"shadow": {}, "gates": [{"gate": "agreement"}, {"gate": "agreement", "name": "b"}]},
            "by one `tolerance`",
            id="two tolerances",
        ),
        pytest.param(
            {"shadow": {}, "gates": [{"gate": "quality"}]}, "asks nothing in its shadow stage", id="shadow"
        ),
        pytest.param(
            {"strategy": "blue-green", "gates": [{"gate": "latency"}]}, "asks nothing in its bake", id="bake"
        ),
        pytest.param({"users": USERS}, "`users` is for the strategy ab", id="users of a canary"),
        pytest.param({"strategy": "ab"}, "`users` is missing", id="ab without users"),
        pytest.param(
            {"strategy": "ab", "users": USERS, "stages": [5]}, "`stages` is for the strategy canary", id="ab"
        ),
        pytest.param(
            {"strategy": "blue-green", "sticky": {"header": "x-user"}}, "`sticky` is for", id="sticky"
        ),
        pytest.param({"sticky": {}}, "exactly one of `header` and `cookie`", id="sticky by nothing"),
        pytest.param({"sticky": {"header": "x-coalmine-slot"}}, "testers choose", id="the testers' header"),
        pytest.param({"shadow": {"percent": 0}}, "`rollout.shadow.percent`", id="shadow of nothing"),
        pytest.param({"poll_s": 400}, "`no_data_budget_s` 600 ends before", id="budget shorter than polls"),
        pytest.param({"bake_s": 3600}, "`bake_s` 3600 is not over", id="bake longer than its budget"),
        pytest.param({"hold_budget_s": 0}, "`rollout.hold_budget_s`", id="no time at all"),
        pytest.param({"notify": [{"webhook": "slack"}]}, "give a URL, or $NAME", id="no address"),
    ],
)
def test_a_rollout_that_could_never_promote_or_says_two_things_is_refused(
    rollout: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(ModelSpec, with_(MODEL, "rollout", rollout), "model.yaml")
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "rollout",
    [
        {"strategy": "blue-green", "gates": [{"gate": "errors"}, APPROVAL]},
        {"strategy": "ab", "users": {"cookie": "group", "value": "beta"}, "shadow": {"percent": 30}},
        {"sticky": {"cookie": "uid"}, "gates": [{"gate": "errors"}, APPROVAL | {"before": 25}]},
        {"gates": [QUERY | {"against": "stable", "ratio": 0.9}, {"gate": "errors", "name": "all-errors"}]},
        {"notify": [{"webhook": "$SLACK_URL", "format": "slack", "on": ["promoted"]}]},
    ],
)
def test_what_the_documentation_shows_is_taken(rollout: dict[str, Any]) -> None:
    parse_spec(ModelSpec, with_(MODEL, "rollout", rollout), "model.yaml")


def test_on_is_a_key_as_the_documentation_writes_it() -> None:
    """Without quotes, which YAML 1.1 takes for true."""
    text = yaml.safe_dump(MODEL) + "\nrollout: {notify: [{webhook: $SLACK_URL, on: [promoted]}]}\n"
    (notify,) = parse_spec(ModelSpec, text, "model.yaml").rollout.notify
    assert notify.on == ("promoted",)


def test_what_counts_as_fast_is_for_the_latency_gate_alone() -> None:
    assert LatencySpec(fast_ms=5).fast_ms == 5
    with pytest.raises(ValidationError, match="fast_ms"):
        ErrorsSpec.model_validate({"fast_ms": 5})
