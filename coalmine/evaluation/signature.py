"""What goes into a model and what comes out, in the Open Inference Protocol's types.

The same rules make the rows of training, of evaluation and of a request, so that a model never
sees a dtype online that it did not see offline: whole numbers that are always there are INT64,
every other number is FP64 (missing is NaN), texts are BYTES, and true or false is BOOL when always
there. An input may be null exactly where the training rows had missing values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from coalmine.errors import SpecError
from coalmine.manifest import Tensor
from coalmine.spec import Task

_DTYPES = {"BOOL": "bool", "INT64": "int64", "FP64": "float64", "BYTES": "str"}


def model_frame(frame: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """The columns `features` of dataset rows, as the model takes them.

    Raises:
        SpecError: a feature that no model can take.
    """
    return frame[list(features)].astype({name: _DTYPES[_datatype(frame[name])] for name in features})


def inputs(train: pd.DataFrame, features: Sequence[str]) -> tuple[Tensor, ...]:
    """What a model trained on the dataset rows `train` takes.

    Raises:
        SpecError: a feature that no model can take.
    """
    return tuple(
        Tensor.model_validate(
            {"name": name, "datatype": _datatype(train[name]), "nullable": bool(train[name].isna().any())}
        )
        for name in features
    )


def outputs(task: Task, classes: Sequence[Any]) -> tuple[Tensor, ...]:
    """What a model answers, named as `predict` names it. `classes` are empty for a regression."""
    if task is Task.REGRESSION:
        return (Tensor(name="prediction", datatype="FP64"),)
    label = Tensor.model_validate({"name": "label", "datatype": _datatype(pd.Series(list(classes)))})
    probability = Tensor(name="probability", datatype="FP64")
    if task is Task.BINARY:
        return (label, probability)
    return (label, probability, Tensor(name="probabilities", datatype="FP64"))


def rows(inputs: Sequence[Tensor], values: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Rows as `model_frame` makes them, from one sequence per input; None is missing.

    The caller has checked that the values fit their datatypes.
    """
    return pd.DataFrame(
        {each.name: pd.Series(values[each.name], dtype=_DTYPES[each.datatype]) for each in inputs}, copy=False
    )


def _datatype(column: pd.Series[Any]) -> str:
    dtype = column.dtype
    nullable = pd.api.types.is_extension_array_dtype(dtype)
    if pd.api.types.is_bool_dtype(dtype):
        return "FP64" if nullable else "BOOL"
    if pd.api.types.is_integer_dtype(dtype):
        return "FP64" if nullable else "INT64"
    if pd.api.types.is_float_dtype(dtype):
        return "FP64"
    if pd.api.types.is_string_dtype(dtype):
        return "BYTES"
    raise SpecError(
        f"column `{column.name}` is of type {dtype}, which no model takes: "
        "derive numbers or texts from it in the dataset's source, and use those"
    )
