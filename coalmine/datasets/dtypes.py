"""One dtype per column type, and how values get there without loss.

Whether they may be missing, and which values are allowed, is schema's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from coalmine.spec import Column, ColumnType

# What a column is while it is checked, when any of its values may still be missing.
_CHECKED: dict[ColumnType, Any] = {
    ColumnType.INTEGER: "Int64",
    ColumnType.NUMBER: "float64",
    ColumnType.STRING: "str",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.DATETIME: "datetime64[us]",
}
_COMPLETE: dict[ColumnType, Any] = {**_CHECKED, ColumnType.INTEGER: "int64", ColumnType.BOOLEAN: "bool"}

_NUMERIC_KINDS = {"integer", "floating", "mixed-integer-float", "decimal"}
# The answers of pandas' infer_dtype that a column type can be made from.
_KINDS = {
    ColumnType.INTEGER: _NUMERIC_KINDS,
    ColumnType.NUMBER: _NUMERIC_KINDS,
    ColumnType.STRING: {"string"},
    ColumnType.BOOLEAN: {"boolean"},
    ColumnType.DATETIME: {"datetime64", "datetime", "date"},
}


def canonical_dtype(column: Column) -> Any:
    """The dtype of `column` in a partition. It follows from dataset.yaml alone, so that every
    partition has the same: a month without missing values is typed like the one before."""
    return (_CHECKED if column.missing else _COMPLETE)[column.type]


def misfits(values: pd.Series[Any], type_: ColumnType) -> pd.Series[bool]:
    """Which rows keep `values` from being a column of `type_`."""
    values = _plain(values)
    present = values.notna()
    if not present.any():
        return present  # nothing there is nothing wrong; whether it may be missing is another rule
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind in _KINDS[type_]:
        return present & ~_lossless(values, type_)
    unreadable = present & ~_readable(values, type_)
    # A column of texts is no column of numbers, even when every text could be read as one.
    return unreadable if unreadable.any() else present


def as_checked(values: pd.Series[Any], type_: ColumnType) -> pd.Series[Any]:
    """`values` without misfits, in the nullable dtype that they are checked in. Times that have a
    zone become UTC, since partitions hold none."""
    if not values.notna().any():
        return pd.Series([None] * len(values), index=values.index, dtype=_CHECKED[type_])
    values = _plain(values)
    match type_:
        case ColumnType.DATETIME:
            times = pd.to_datetime(values, utc=True).dt.tz_localize(None)
            return times.astype("datetime64[us]")
        case ColumnType.NUMBER:
            return pd.Series(_floats(values), index=values.index)
        case _:
            cast: pd.Series[Any] = values.astype(_CHECKED[type_])
            return cast


def _plain(values: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(values.cat.categories.dtype)
    return values


def _lossless(values: pd.Series[Any], type_: ColumnType) -> pd.Series[bool]:
    """Which of `values`, all of a kind that fits `type_`, its dtype takes without loss."""
    fits = np.full(len(values), True)
    if type_ is ColumnType.NUMBER:
        fits = np.isfinite(_floats(values))
    elif type_ is ColumnType.INTEGER and not pd.api.types.is_signed_integer_dtype(values.dtype):
        floats = _floats(values)
        fits = (np.floor(floats) == floats) & (floats >= -(2.0**63)) & (floats < 2.0**63)
    return pd.Series(fits, index=values.index)


def _readable(values: pd.Series[Any], type_: ColumnType) -> pd.Series[bool]:
    """Which of `values`, some or all of a kind that does not fit `type_`, could be read as it."""
    match type_:
        case ColumnType.INTEGER | ColumnType.NUMBER:
            return pd.to_numeric(values.astype(object), errors="coerce").notna()
        case ColumnType.DATETIME:
            texts = values.map(lambda value: value if isinstance(value, str) else None)
            return pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True).notna()
        case ColumnType.STRING:
            return values.map(lambda value: isinstance(value, str)).astype(bool)
        case ColumnType.BOOLEAN:
            return values.map(lambda value: isinstance(value, bool | np.bool_)).astype(bool)


def _floats(values: pd.Series[Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return values.to_numpy(dtype="float64", na_value=np.nan)
