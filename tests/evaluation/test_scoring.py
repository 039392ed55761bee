"""What is judged, and the example that a release carries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from coalmine.errors import SpecError
from coalmine.evaluation import signature
from coalmine.evaluation.predict import predict
from coalmine.evaluation.prepared import Side, SplitRecord
from coalmine.evaluation.scoring import example, rows_to_judge
from coalmine.spec import Evaluation, Slices, Task

SIDE = Side(("2013-05",), 3, 0, 0)
SPLIT = SplitRecord("flights", SIDE, SIDE, group="day", time="at")
TEST = pd.DataFrame(
    {"x": [np.nan, 1.0, 2.0], "late": [0, 1, 0], "day": ["a", "a", "b"], "origin": ["J", "E", "J"]}
)


def test_rows_carry_their_groups_slices_and_name():
    rows = rows_to_judge(
        TEST, "late", SPLIT, Evaluation(metrics=("brier",), slices=Slices(columns=("origin",)))
    )
    assert rows.label == "2013-05"
    assert rows.group is not None
    assert rows.group.tolist() == ["a", "a", "b"]
    assert rows.slices["origin"].tolist() == ["J", "E", "J"]


def test_a_slice_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match=r"`orgin`.*data/flights.*did you mean `origin`"):
        rows_to_judge(TEST, "late", SPLIT, Evaluation(metrics=("brier",), slices=Slices(columns=("orgin",))))


@pytest.mark.parametrize(
    ("train_x", "estimator", "shown"),
    [
        ([1.0, 2.0, 3.0], LogisticRegression(), 1.0),
        ([1.0, np.nan, 3.0], HistGradientBoostingClassifier(), None),
    ],
    ids=["no gap in training: the first complete row", "gaps in training: a null"],
)
def test_the_example_is_a_row_that_the_model_takes_and_its_answer(train_x, estimator, shown):
    train = pd.DataFrame({"x": train_x})
    model = estimator.fit(train, [0, 1, 0])
    inputs = signature.inputs(train, ["x"])
    found = example(model, TEST, inputs, Task.BINARY)
    assert found.inputs == {"x": shown}
    again = predict(model, signature.rows(inputs, {"x": [found.inputs["x"]]}), Task.BINARY)
    assert found.outputs == {name: values[0].item() for name, values in again.outputs.items()}


def test_the_example_of_a_model_with_lookups_holds_what_a_request_brings():
    train = pd.DataFrame({"x": [1.0, 2.0, 3.0], "day": ["a", "b", "a"]})
    model = LogisticRegression().fit(train[["x"]], [0, 1, 0])
    features, inputs = signature.inputs(train, ["x"]), signature.inputs(train, ["day"])
    found = example(model, TEST, inputs, Task.BINARY, features)
    assert found.inputs == {"day": "a"}
    complete = predict(model, pd.DataFrame({"x": [1.0]}), Task.BINARY)
    assert found.outputs["probability"] == complete.outputs["probability"][0]
