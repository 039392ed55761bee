"""From the protocol's tensors to the rows that a model takes.

A request brings one tensor for each input. It may declare another datatype than the model's
where no value changes by it (INT64 for FP64, whole FP64 for INT64); everything else is refused
with the input, the row and the remedy. The rows equal those of `evaluation.signature`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from coalmine.manifest import Tensor
from coalmine.serving.refusal import FailureKind, Refusal, shown

MAX_ROWS = 10_000

_INTEGERS = {
    f"{sign}INT{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits if sign else bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
_DATATYPES = ["BOOL", *_INTEGERS, *_FLOATS, "BYTES"]
_EXACT_IN_FP64 = 2**53


class InputSchema:
    """What a release's manifest says about its inputs, ready to read requests by."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = {each.name: each for each in inputs}

    def frame(self, tensors: object) -> pd.DataFrame:
        """The rows of a request's `inputs`, columns in the manifest's order.

        Raises:
            Refusal: what is wrong, in which input and row.
        """
        given = self._by_name(tensors)
        rows: int | None = None
        columns = {}
        for name, wanted in self._inputs.items():
            tensor = given[name]
            shape_rows = _rows(name, tensor.get("shape"))
            if rows is not None and shape_rows != rows:
                first = next(iter(self._inputs))
                raise _schema(
                    f"input `{name}` has {shape_rows} rows, but `{first}` has {rows}: send as many in each"
                )
            rows = shape_rows
            columns[name] = _column(wanted, tensor, rows)
        # Arrays instead of Series: ten times faster for one row, which is most requests.
        return pd.DataFrame(columns, copy=False)

    def _by_name(self, tensors: object) -> dict[str, dict[str, Any]]:
        if not isinstance(tensors, list) or not all(isinstance(each, dict) for each in tensors):
            raise _malformed("`inputs` must be a list of tensors: {name, shape, datatype, data}")
        given: dict[str, dict[str, Any]] = {}
        for position, tensor in enumerate(tensors):
            name = tensor.get("name")
            if not isinstance(name, str):
                raise _malformed(
                    f"`inputs[{position}]` has no `name`: give it one of {', '.join(self._inputs)}"
                )
            if name not in self._inputs:
                near = difflib.get_close_matches(name, self._inputs, n=1, cutoff=0.5)
                hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(self._inputs)}"
                raise _schema(f"input `{name}` is not one of this model's: {hint}")
            if name in given:
                raise _schema(f"input `{name}` is given twice: send it once")
            given[name] = tensor
        absent = [name for name in self._inputs if name not in given]
        if absent:
            raise _schema(f"input `{absent[0]}` is missing: this model takes {', '.join(self._inputs)}")
        return given


def _rows(name: str, shape: object) -> int:
    match shape:
        case [int(rows)] | [int(rows), 1] if not isinstance(rows, bool):
            pass
        case _:
            raise _schema(f"input `{name}` has the shape {shown(shape)}: it must be [rows] or [rows, 1]")
    if rows < 1:
        raise _schema(f"input `{name}` has no rows: send at least one")
    if rows > MAX_ROWS:
        raise Refusal(
            FailureKind.TOO_LARGE,
            f"input `{name}` has {rows} rows: send at most {MAX_ROWS} in one request",
            413,
        )
    return rows


def _column(wanted: Tensor, tensor: dict[str, Any], rows: int) -> Any:
    name, declared = wanted.name, tensor.get("datatype")
    if declared not in _DATATYPES:
        raise _schema(f"input `{name}` has the datatype {shown(declared)}: send {wanted.datatype}")
    values = _values(name, tensor, rows)
    types = set(map(type, values))
    if type(None) in types:
        _allow_missing(wanted, values)
        types.discard(type(None))
    _check_types(name, declared, values, types)
    match wanted.datatype:
        case "FP64" if declared in _FLOATS or declared in _INTEGERS:
            return _fp64(name, declared, values)
        case "INT64" if declared in _INTEGERS:
            return _int64(name, declared, values)
        case "INT64" if declared in _FLOATS:
            return _whole(name, declared, values)
        case "BOOL" if declared == "BOOL":
            return np.array(values, dtype=np.bool_)
        case "BYTES" if declared == "BYTES":
            return pd.array(values, dtype="str")
        case _:
            raise _schema(
                f"input `{name}` is {declared}, but this model takes {wanted.datatype} there: send that"
            )


def _values(name: str, tensor: dict[str, Any], rows: int) -> list[Any]:
    """The tensor's data, flat; it may come nested as its shape says."""
    values = tensor.get("data")
    if not isinstance(values, list):
        raise _malformed(
            f"input `{name}` has no `data` list: send its values as JSON (this server takes no binary data)"
        )
    if len(values) != rows:
        raise _schema(f"input `{name}` has {len(values)} values in `data`, but its shape says {rows} rows")
    if len(tensor["shape"]) == 2 and all(isinstance(each, list) and len(each) == 1 for each in values):
        return [each[0] for each in values]
    return values


def _allow_missing(wanted: Tensor, values: list[Any]) -> None:
    # Whole numbers and booleans have no missing value in the rows that models are trained on.
    if wanted.nullable and wanted.datatype in ("FP64", "BYTES"):
        return
    raise Refusal(
        FailureKind.MISSING_VALUE,
        f"input `{wanted.name}` has a missing value in row {values.index(None)}; this model was trained "
        "without missing values there: send a value, or release a model that was trained with such rows",
    )


def _check_types(name: str, declared: str, values: list[Any], types: set[type]) -> None:
    if declared in _FLOATS:
        fit, wanted = {int, float}, "a number"
    elif declared in _INTEGERS:
        fit, wanted = {int}, "a whole number"
    elif declared == "BOOL":
        fit, wanted = {bool}, "true or false"
    else:
        fit, wanted = {str}, "a text"
    if types <= fit:
        return
    row = next(row for row, value in enumerate(values) if value is not None and type(value) not in fit)
    raise _schema(
        f"input `{name}` has {shown(values[row])} in row {row}, which is not {wanted}, as {declared} says"
    )


def _fp64(name: str, declared: str, values: list[Any]) -> Any:
    column = np.array(values, dtype=np.float64)  # None becomes NaN
    if declared in _INTEGERS:
        low, high = _INTEGERS[declared]
        _refuse_where((column < low) | (column > high), name, values, f"does not fit {declared}")
        _refuse_where(
            np.abs(column) > _EXACT_IN_FP64, name, values, "FP64 cannot hold exactly: send a nearer value"
        )
        return column
    if declared != "FP64":
        with np.errstate(over="ignore"):
            column = column.astype(_FLOATS[declared]).astype(np.float64)
    _refuse_where(np.isinf(column), name, values, f"is too large for {declared}")
    return column


def _int64(name: str, declared: str, values: list[int]) -> Any:
    low, high = _INTEGERS[declared]
    high = min(high, _INTEGERS["INT64"][1])
    if min(values) < low or max(values) > high:
        row = next(row for row, value in enumerate(values) if not low <= value <= high)
        raise _schema(
            f"input `{name}` has {values[row]} in row {row}: {declared} here goes from {low} to {high}"
        )
    return np.array(values, dtype=np.int64)


def _whole(name: str, declared: str, values: list[Any]) -> Any:
    column = _fp64(name, declared, values)
    _refuse_where(column != np.floor(column), name, values, "is not whole: this model takes INT64 there")
    _refuse_where(
        np.abs(column) > _EXACT_IN_FP64, name, values, f"{declared} cannot hold exactly: send INT64"
    )
    return column.astype(np.int64)


def _refuse_where(wrong: Any, name: str, values: list[Any], why: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise _schema(f"input `{name}` has {shown(values[row])} in row {row}, which {why}")


def _malformed(message: str) -> Refusal:
    return Refusal(FailureKind.MALFORMED, message)


def _schema(message: str) -> Refusal:
    return Refusal(FailureKind.SCHEMA, message)
