"""Rows of training and rows of a request are the same to a model."""

import numpy as np
import pandas as pd
import pytest

from coalmine.errors import SpecError
from coalmine.evaluation import signature
from coalmine.manifest import Tensor
from coalmine.spec import Task

TRAIN = pd.DataFrame(
    {
        "count": pd.Series([1, 2, 3], dtype="int64"),
        "gap_count": pd.Series([1, None, 3], dtype="Int64"),
        "could_gap_count": pd.Series([1, 2, 3], dtype="Int64"),
        "number": [0.5, 1.0, 2.0],
        "gap_number": [0.5, np.nan, 2.0],
        "flag": [True, False, True],
        "gap_flag": pd.Series([True, None, False], dtype="boolean"),
        "text": pd.Series(["a", "b", "c"], dtype="str"),
        "gap_text": pd.Series(["a", None, "c"], dtype="str"),
        "when": pd.to_datetime(["2013-01-01"] * 3),
    }
)
FEATURES = [name for name in TRAIN.columns if name != "when"]


def test_inputs_are_null_exactly_where_the_training_rows_were():
    found = {each.name: (each.datatype, each.nullable) for each in signature.inputs(TRAIN, FEATURES)}
    assert found == {
        "count": ("INT64", False),
        "gap_count": ("FP64", True),
        "could_gap_count": ("FP64", False),
        "number": ("FP64", False),
        "gap_number": ("FP64", True),
        "flag": ("BOOL", False),
        "gap_flag": ("FP64", True),
        "text": ("BYTES", False),
        "gap_text": ("BYTES", True),
    }


def test_a_request_makes_the_row_that_training_saw():
    inputs = signature.inputs(TRAIN, FEATURES)
    expected = signature.model_frame(TRAIN, FEATURES)
    values = {
        name: [
            None if missing else value
            for value, missing in zip(expected[name].tolist(), expected[name].isna(), strict=True)
        ]
        for name in FEATURES
    }
    pd.testing.assert_frame_equal(signature.rows(inputs, values), expected)


def test_a_column_of_nothing_but_nulls_keeps_its_dtype():
    inputs = [
        Tensor(name="x", datatype="FP64", nullable=True),
        Tensor(name="s", datatype="BYTES", nullable=True),
    ]
    frame = signature.rows(inputs, {"x": [None], "s": [None]})
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "str"]


def test_a_datetime_is_no_feature():
    with pytest.raises(SpecError, match=r"`when`.*derive numbers"):
        signature.model_frame(TRAIN, ["when"])


@pytest.mark.parametrize(
    ("task", "classes", "expected"),
    [
        (Task.BINARY, (0, 1), [("label", "INT64"), ("probability", "FP64")]),
        (Task.BINARY, ("no", "yes"), [("label", "BYTES"), ("probability", "FP64")]),
        (Task.BINARY, (False, True), [("label", "BOOL"), ("probability", "FP64")]),
        (
            Task.MULTICLASS,
            ("a", "b", "c"),
            [("label", "BYTES"), ("probability", "FP64"), ("probabilities", "FP64")],
        ),
        (Task.REGRESSION, (), [("prediction", "FP64")]),
    ],
    ids=["numbers", "texts", "flags", "multiclass", "regression"],
)
def test_outputs_are_named_by_the_task(task, classes, expected):
    assert [(each.name, each.datatype) for each in signature.outputs(task, classes)] == expected
