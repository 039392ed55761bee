"""What a file's rows say about its columns: the start of a dataset.yaml.

Bounds are rounded outwards, so that the next file of the same kind has room; what may be
true of the data only people know. Reading is datasets.sources', checking datasets.schema's.
"""

from __future__ import annotations

import glob
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from coalmine.datasets.partitions import ALL, names_of_times
from coalmine.datasets.sources import PLACEHOLDER, open_source
from coalmine.errors import InputError, NotFound, Unsupported
from coalmine.spec import Column, ColumnType, DatasetSpec, PartitionPeriod, Source

FEW_VALUES = 20  # texts with no more than these are listed as the only ones allowed
ROWS_PER_VALUE = 5  # fewer, and the values are more likely names than classes
ENOUGH_PARTITIONS = 4  # three to train on and one to test with: what model.yaml starts from

_NAME_OF = {
    PartitionPeriod.DAY: r"\d{4}-\d\d-\d\d",
    PartitionPeriod.MONTH: r"\d{4}-\d\d",
    PartitionPeriod.YEAR: r"\d{4}",
}
_NO_VALUE = {"", "NA", "N/A", "NaN", "nan", "NULL", "null"}  # in a column that is no column of texts


def infer_dataset(repository: Path, name: str, files: str) -> tuple[DatasetSpec, int]:
    """A description that the rows of `files` satisfy, and how many rows they are.

    files: path (from the top of `repository`, or absolute) or URL of a CSV or Parquet file; a
        path may hold `{partition}`, then all files that fit are read.

    Raises:
        NotFound: no such file.
        DataRefused: a file that cannot be read.
        InputError: files by period without a column of dates.
    """
    locations = _locations(repository, files)
    raw = _read(repository, name, locations, {})
    if raw.empty:
        raise InputError(f"{files} holds no rows: coalmine describes a dataset by its rows.")
    is_typed = files.endswith(".parquet")
    types = {str(column): infer_type(raw[column], is_typed) for column in raw.columns}
    # Once more: which texts mean "no value" depends on the column's type.
    rows = _read(repository, name, locations, types)
    time = _time_column(rows, types)
    if PLACEHOLDER in files:
        period = _period_of_names(locations, files)
        if time is None:
            raise InputError(
                f"{files} is one file for each {period.value}, but none of its columns holds a date in each "
                f"row. The columns are: {', '.join(types)}. Add the date to the files, as 2013-01-31."
            )
    else:
        period = PartitionPeriod.NONE if time is None else _period_of_times(rows[time])
    if period is PartitionPeriod.NONE or time is None:
        time = None
        partitions = pd.Series(ALL, index=rows.index)
    else:
        partitions = names_of_times(rows[time], period)
    columns = {
        column: describe_column(rows[column], type_, _missing(rows[column], partitions))
        for column, type_ in types.items()
    }
    spec = DatasetSpec(
        name=name,
        source=Source(files=files),
        period=period,
        time=time,
        key=_key(rows, columns),
        columns=columns,
    )
    return spec, len(rows)


def infer_type(values: pd.Series[Any], is_typed: bool) -> ColumnType:
    """The narrowest type that all of `values` are of, or can be read as.

    is_typed: the file knows types, as Parquet does: a text in it is a text.
    """
    if pd.api.types.is_bool_dtype(values.dtype):
        return ColumnType.BOOLEAN
    if pd.api.types.is_integer_dtype(values.dtype):
        return ColumnType.INTEGER
    if pd.api.types.is_numeric_dtype(values.dtype):
        return ColumnType.NUMBER
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return ColumnType.DATETIME
    if is_typed:
        is_date = pd.api.types.infer_dtype(values, skipna=True) in ("date", "datetime")
        return ColumnType.DATETIME if is_date else ColumnType.STRING
    texts = values.dropna().astype(str)
    texts = texts[~texts.isin(_NO_VALUE)]
    if texts.empty:
        return ColumnType.NUMBER
    if texts.str.fullmatch("true|false", case=False).all():
        return ColumnType.BOOLEAN
    if texts.str.fullmatch(r"[+-]?\d+").all():
        return ColumnType.INTEGER
    if pd.to_numeric(texts, errors="coerce").notna().all():
        return ColumnType.NUMBER
    if pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True).notna().all():
        return ColumnType.DATETIME
    return ColumnType.STRING


def describe_column(values: pd.Series[Any], type_: ColumnType, missing: float) -> Column:
    """The checks that `values` pass, with some room for the next ones; `missing` is allowed to lack."""
    present = values.dropna()
    match type_:
        case ColumnType.INTEGER if set(present.unique()) == {0, 1}:
            return Column(type=type_, missing=missing, values=(0, 1))
        case ColumnType.INTEGER | ColumnType.NUMBER if not present.empty:
            low, high = float(present.min()), float(present.max())
            return Column(type=type_, missing=missing, minimum=_below(low), maximum=_above(high))
        case ColumnType.STRING:
            distinct = sorted(present.unique())
            few = len(distinct) <= FEW_VALUES and len(present) >= ROWS_PER_VALUE * len(distinct)
            return Column(type=type_, missing=missing, values=tuple(distinct) if few else None)
        case _:
            return Column(type=type_, missing=missing)


def _locations(repository: Path, files: str) -> dict[str, str]:
    """The files to read, by the name of their partition."""
    if PLACEHOLDER not in files:
        return {ALL: files}
    if "://" in files:
        raise Unsupported(
            f"files behind a URL cannot be listed ({files}): describe the dataset by one of them, then put "
            f"{PLACEHOLDER} into `source.files`"
        )
    before, after = str(repository / files).split(PLACEHOLDER, 1)
    paths = sorted(glob.glob(f"{glob.escape(before)}*{glob.escape(after)}"))
    if not paths:
        raise NotFound(f"no file fits {files}")
    return {path.removeprefix(before).removesuffix(after): path for path in paths}


def _read(
    repository: Path, name: str, locations: dict[str, str], types: dict[str, ColumnType]
) -> pd.DataFrame:
    columns = {column: Column(type=type_) for column, type_ in types.items()}
    frames = []
    for location in locations.values():
        # One file at a time and without a period: the column that the period goes by is not known yet.
        spec = DatasetSpec(name=name, source=Source(files=location), columns=columns)
        frames.append(open_source(repository, spec).load(ALL))
    return pd.concat(frames, ignore_index=True)


def _time_column(rows: pd.DataFrame, types: dict[str, ColumnType]) -> str | None:
    """The first column that holds a time in each row."""
    for column, type_ in types.items():
        if type_ is ColumnType.DATETIME and rows[column].dtype.kind == "M" and rows[column].notna().all():
            return column
    return None


def _missing(values: pd.Series[Any], partitions: pd.Series[str]) -> float:
    """Twice the share that the worst partition lacks, rounded up to 5 %; 0 where nothing is missing."""
    worst = float(values.isna().groupby(partitions).mean().max())
    return min(1.0, math.ceil(round(40 * worst, 6)) / 20)


def _period_of_names(locations: dict[str, str], files: str) -> PartitionPeriod:
    for period, name in _NAME_OF.items():
        if all(re.fullmatch(name, found) for found in locations):
            return period
    raise InputError(
        f"{files}: {PLACEHOLDER} must stand for a day, a month or a year, as in 2013-01-31, 2013-01 or 2013. "
        f"It stands for: {', '.join(locations)}"
    )


def _period_of_times(times: pd.Series[Any]) -> PartitionPeriod:
    for period in (PartitionPeriod.MONTH, PartitionPeriod.DAY):
        if names_of_times(times, period).nunique() >= ENOUGH_PARTITIONS:
            return period
    return PartitionPeriod.NONE


def _key(rows: pd.DataFrame, columns: dict[str, Column]) -> tuple[str, ...]:
    """The first column that names each row: a guess, since any column may happen to."""
    for name, column in columns.items():
        names_rows = column.type in (ColumnType.INTEGER, ColumnType.STRING) and not column.missing
        if names_rows and rows[name].is_unique:
            return (name,)
    return ()


def _above(value: float) -> float:
    """`value` rounded up to one significant digit."""
    if value == 0:
        return 0.0
    step = 10.0 ** math.floor(math.log10(abs(value)))
    return round(math.ceil(round(value / step, 9)) * step, 12)


def _below(value: float) -> float:
    """`value` rounded down to one significant digit; what was never negative must not become it."""
    return 0.0 if value >= 0 else -_above(-value)
