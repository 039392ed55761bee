"""From the protocol's tensors to rows that fit a release's manifest.

A request brings one tensor for each input, or, where all inputs are numbers, one row-major
tensor of shape [rows, inputs] in the manifest's order. A tensor may declare another datatype
than the input's where no value changes by it (INT64 for FP64, whole FP64 for INT64); everything
else is refused with the input, the row and the remedy.

Most requests are one row of exactly the declared types: those are read in a few microseconds,
and whatever is unusual about a request sends it the careful way, which also words the refusals.
"""

from __future__ import annotations

import difflib
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
_LARGEST_INT64 = 2**63 - 1
_NUMBERS = frozenset((float, int))
_COMPARED = 100  # characters of an unknown name: looking for the nearest takes their square
_USUAL = {"FP64": (float, int), "INT64": (int,), "BOOL": (bool,), "BYTES": (str,)}
_ONE_ROW = ([1], [1, 1])


@dataclass(slots=True)
class Rows:
    """What a request asks about: `columns` by input, plain values with None for missing, or, where a
    request brought one usual row so, `packed`: its numbers as native float64, in the inputs' order."""

    count: int
    columns: dict[str, list[Any]] | None
    packed: bytes | None = None

    def by_input(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """`columns`, whichever way the request brought them; a packed row has nothing missing."""
        if self.columns is not None:
            return self.columns
        assert self.packed is not None
        return {name: [value] for name, value in zip(names, array("d", self.packed), strict=True)}


class InputSchema:
    """What a release's manifest says about its inputs, ready to read requests by."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = {each.name: each for each in inputs}
        self._usual = {each.name: (each.datatype, _USUAL[each.datatype]) for each in inputs}
        self._is_numeric = all(each.datatype in ("FP64", "INT64") for each in inputs)
        self._width = len(inputs)
        self._pack = struct.Struct(f"={self._width}d").pack
        self._is_fp64 = len(inputs) > 1 and all(each.datatype == "FP64" for each in inputs)

    def rows(self, tensors: object) -> Rows:
        """The rows of a request's `inputs`, as JSON brought them: without NaN and infinity.

        Raises:
            Refusal: what is wrong, in which input and row.
        """
        if self._is_fp64 and (packed := self._usual_numbers(tensors)) is not None:
            return Rows(1, None, packed)
        columns = self._usual_row(tensors)
        return self.read(tensors) if columns is None else Rows(1, columns)

    def _usual_row(self, tensors: Any) -> dict[str, list[Any]] | None:
        """One row, each value of its input's own type, none missing; None for every other request."""
        columns: dict[str, list[Any]] = {}
        usual = self._usual
        try:
            for tensor in tensors:
                name = tensor["name"]
                datatype, types = usual[name]
                shape = tensor["shape"]
                if tensor["datatype"] != datatype or shape not in _ONE_ROW or type(shape[0]) is not int:
                    return None
                (value,) = data = tensor["data"]
                if type(value) not in types or (datatype == "INT64" and value > _LARGEST_INT64):
                    return None
                columns[name] = data
        except (LookupError, TypeError, ValueError):
            return None
        return columns if len(columns) == len(tensors) == len(usual) else None

    def _usual_numbers(self, tensors: Any) -> bytes | None:
        """One row of numbers as one tensor, none missing; None for every other request."""
        width = self._width
        try:
            (tensor,) = tensors
            shape, data = tensor["shape"], tensor["data"]
            if tensor["datatype"] != "FP64" or shape != [1, width] or type(shape[0]) is not int:
                return None
            if len(data) != width:
                return None
            # true is a number to `pack`.
            return self._pack(*data) if _NUMBERS.issuperset(map(type, data)) else None
        except (LookupError, TypeError, ValueError, OverflowError):
            return None

    def read(self, tensors: object) -> Rows:
        """The careful way, for whatever a request may bring.

        Raises:
            Refusal: what is wrong, in which input and row.
        """
        if isinstance(tensors, list):
            tensors = tensors[: len(self._inputs) + 1]  # one too many is refused, whatever follows it
        if not isinstance(tensors, list) or not all(isinstance(each, dict) for each in tensors):
            raise _malformed("`inputs` must be a list of tensors: {name, shape, datatype, data}")
        if len(tensors) == 1 and self._is_row_major(tensors[0]):
            tensors = self._by_input(tensors[0])
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
        assert rows is not None
        return Rows(rows, columns)

    def _is_row_major(self, tensor: dict[str, Any]) -> bool:
        """Whether it may hold all inputs: by its shape, unless it is one of several by its name."""
        if len(self._inputs) == 1:
            return tensor.get("name") not in self._inputs
        shape = tensor.get("shape")
        return isinstance(shape, list) and len(shape) == 2 and shape[1] == len(self._inputs)

    def _by_input(self, tensor: dict[str, Any]) -> list[dict[str, Any]]:
        """The row-major tensor as one for each input."""
        name, shape, width = shown(tensor.get("name")), tensor.get("shape"), len(self._inputs)
        if not self._is_numeric:
            raise _schema(
                f"input {name} holds all columns at once, but they are not all numbers: send one tensor for "
                f"each of {', '.join(self._inputs)}"
            )
        rows = _rows(name, [shape[0]] if isinstance(shape, list) and shape else shape)
        data = tensor.get("data")
        if not isinstance(data, list):
            raise _malformed(f"input {name} has no `data` list: send its values as JSON or as binary data")
        flat = data
        if len(data) == rows and all(isinstance(each, list) for each in data):
            flat = [value for row in data for value in row]
            if any(len(row) != width for row in data):
                raise _schema(f"input {name}: each row of `data` must have {width} values")
        if len(flat) != rows * width:
            raise _schema(
                f"input {name} has {len(flat)} values in `data`, but its shape says {rows} x {width}"
            )
        datatype = tensor.get("datatype")
        return [
            {"name": each, "shape": [rows], "datatype": datatype, "data": flat[place::width]}
            for place, each in enumerate(self._inputs)
        ]

    def _by_name(self, tensors: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        given: dict[str, dict[str, Any]] = {}
        for position, tensor in enumerate(tensors):
            name = tensor.get("name")
            if not isinstance(name, str):
                raise _malformed(
                    f"`inputs[{position}]` has no `name`: give it one of {', '.join(self._inputs)}"
                )
            if name not in self._inputs:
                near = difflib.get_close_matches(name[:_COMPARED], self._inputs, n=1, cutoff=0.5)
                hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(self._inputs)}"
                raise _schema(f"input {shown(name)} is not one of this model's: {hint}")
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


def _column(wanted: Tensor, tensor: dict[str, Any], rows: int) -> list[Any]:
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
            return values
        case "BYTES" if declared == "BYTES":
            return values
        case _:
            raise _schema(
                f"input `{name}` is {declared}, but this model takes {wanted.datatype} there: send that"
            )


def _values(name: str, tensor: dict[str, Any], rows: int) -> list[Any]:
    """The tensor's data, flat; it may come nested as its shape says."""
    values = tensor.get("data")
    if not isinstance(values, list):
        raise _malformed(f"input `{name}` has no `data` list: send its values as JSON or as binary data")
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


def _fp64(name: str, declared: str, values: list[Any]) -> list[Any]:
    """As they are where FP64 says so; rounded where a narrower type does."""
    column = np.array(values, dtype=np.float64)  # None becomes NaN
    if declared in _INTEGERS:
        low, high = _INTEGERS[declared]
        _refuse_where((column < low) | (column > high), name, values, f"does not fit {declared}")
        _refuse_where(
            np.abs(column) > _EXACT_IN_FP64, name, values, "FP64 cannot hold exactly: send a nearer value"
        )
        return values
    if declared != "FP64":
        with np.errstate(over="ignore"):
            column = column.astype(_FLOATS[declared]).astype(np.float64)
    _refuse_where(np.isinf(column), name, values, f"is too large for {declared}")
    if declared == "FP64":
        return values
    return [None if old is None else new for old, new in zip(values, column.tolist(), strict=True)]


def _int64(name: str, declared: str, values: list[int]) -> list[int]:
    low, high = _INTEGERS[declared]
    high = min(high, _INTEGERS["INT64"][1])
    if min(values) < low or max(values) > high:
        row = next(row for row, value in enumerate(values) if not low <= value <= high)
        raise _schema(
            f"input `{name}` has {values[row]} in row {row}: {declared} here goes from {low} to {high}"
        )
    return values


def _whole(name: str, declared: str, values: list[Any]) -> list[int]:
    column = np.array(_fp64(name, declared, values), dtype=np.float64)
    _refuse_where(column != np.floor(column), name, values, "is not whole: this model takes INT64 there")
    _refuse_where(
        np.abs(column) > _EXACT_IN_FP64, name, values, f"{declared} cannot hold exactly: send INT64"
    )
    whole: list[int] = column.astype(np.int64).tolist()
    return whole


def _refuse_where(wrong: Any, name: str, values: list[Any], why: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise _schema(f"input `{name}` has {shown(values[row])} in row {row}, which {why}")


def _malformed(message: str) -> Refusal:
    return Refusal(FailureKind.MALFORMED, message)


def _schema(message: str) -> Refusal:
    return Refusal(FailureKind.SCHEMA, message)
