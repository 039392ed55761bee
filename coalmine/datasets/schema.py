"""The checks of dataset.yaml, applied to the rows of one partition.

`check_partition` brings a frame into canonical form (columns in the file's order, one dtype
per column type, rows in key order), so that the same rows always give the same bytes, and
refuses it with every fault at once. Types are judged in dtypes, which counts and shows the
rows that do not fit; the rules on values are pandera's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pandera.pandas as pandera

from coalmine.datasets.dtypes import as_checked, canonical_dtype, misfits
from coalmine.datasets.partitions import dataset_folder, period_bounds
from coalmine.errors import DataRefused
from coalmine.spec import Column, ColumnType, DatasetSpec

_TYPE_RULES = {
    ColumnType.INTEGER: "must hold whole numbers",
    ColumnType.NUMBER: "must hold finite numbers",
    ColumnType.STRING: "must hold text",
    ColumnType.BOOLEAN: "must hold true or false",
    ColumnType.DATETIME: "must hold times (in files: 2013-01-31 or 2013-01-31T10:15:00)",
}


@dataclass(frozen=True)
class Rows:
    """The rows that break a rule: how many, and what one of them looks like."""

    count: int
    example: str


@dataclass(frozen=True)
class Fault:
    """One rule that a partition breaks. `rows` is None where it is broken by the whole partition."""

    subject: str  # "column `late`"
    rule: str  # "must be at least 0"
    mend: str
    rows: Rows | None = None


def check_partition(
    frame: pd.DataFrame, spec: DatasetSpec, partition: str, today: date | None
) -> pd.DataFrame:
    """`frame` in canonical form.

    today: rows after it are refused. None where the answer must depend on the rows alone; they
        were checked against the date when they came in.

    Raises:
        DataRefused: all faults of the partition, one line each.
    """
    schema = partition_schema(spec, partition, today)
    frame = frame.reset_index(drop=True)
    faults = list(_faults_of_shape(frame, spec))
    typed, faults_of_types = _typed(frame, spec)
    faults += faults_of_types
    faults += _faults_of_values(typed, schema, spec)
    if faults:
        raise DataRefused(_refusal(spec, partition, len(frame), faults))
    return _canonical(typed, spec)


def partition_schema(spec: DatasetSpec, partition: str, today: date | None) -> pandera.DataFrameSchema:
    """The rules on values, for columns that already have their checked dtype.

    Each check carries the rule in words as `error`, and how to mend it as `description`.
    """
    where = _file(spec)
    columns = {}
    for name, column in spec.columns.items():
        checks = list(_column_checks(column, where))
        if name == spec.time:
            checks += _time_checks(spec, partition, today)
        columns[name] = pandera.Column(checks=checks, nullable=True, required=False)
    return pandera.DataFrameSchema(columns, checks=_key_checks(spec))


def _faults_of_shape(frame: pd.DataFrame, spec: DatasetSpec) -> Iterator[Fault]:
    where = _file(spec)
    if not len(frame):
        yield Fault("the partition", "must hold rows", "ask for it again when the source has its rows")
    names = list(frame.columns)
    extra = [str(name) for name in dict.fromkeys(names) if name not in spec.columns]
    for name in spec.columns:
        if name not in names:
            near = difflib.get_close_matches(name, extra, n=1)
            hint = (
                f"is it `{near[0]}`? rename one of the two"
                if near
                else f"add it in the source, or remove it from {where}"
            )
            yield Fault(f"column `{name}`", "is missing", hint)
        elif names.count(name) > 1:
            yield Fault(f"column `{name}`", "is there more than once", "drop the others in the source")
    for name in extra:
        mend = f"describe it under `columns` in {where}, or drop it in the source"
        yield Fault(f"column `{name}`", f"is not described in {where}", mend)


def _typed(frame: pd.DataFrame, spec: DatasetSpec) -> tuple[pd.DataFrame, list[Fault]]:
    """The columns that are what they should be, in the dtype they are checked in; faults of the others."""
    typed: dict[str, pd.Series[Any]] = {}
    faults = []
    for name, column in spec.columns.items():
        if list(frame.columns).count(name) != 1:
            continue  # a fault of the shape
        values = frame[name]
        wrong = misfits(values, column.type)
        if wrong.any():
            rows = Rows(int(wrong.sum()), repr(values[wrong].iloc[0]))
            mend = f"correct them in the source, or change the column's `type` in {_file(spec)}"
            faults.append(Fault(f"column `{name}`", _TYPE_RULES[column.type], mend, rows))
        else:
            typed[name] = as_checked(values, column.type)
    return pd.DataFrame(typed, index=frame.index), faults


def _column_checks(column: Column, where: str) -> Iterator[pandera.Check]:
    correct = "correct the rows in the source"
    lack = f"at most {100 * column.missing:.4g} % of its values" if column.missing else "no value"
    yield pandera.Check(
        lambda values: values.notna() | bool(values.isna().mean() <= column.missing),
        name="missing",
        error=f"may lack {lack}",
        description=f"fill them in the source, or raise `missing` in {where}",
        ignore_na=False,
    )
    if column.minimum is not None:
        yield pandera.Check.ge(
            column.minimum,
            name="minimum",
            error=f"must be at least {column.minimum:g}",
            description=f"{correct}, or lower `minimum` in {where}",
        )
    if column.maximum is not None:
        yield pandera.Check.le(
            column.maximum,
            name="maximum",
            error=f"must be at most {column.maximum:g}",
            description=f"{correct}, or raise `maximum` in {where}",
        )
    if column.values is not None:
        yield pandera.Check.isin(
            column.values,
            name="values",
            error=f"must be one of {', '.join(map(str, column.values))}",
            description=f"{correct}, or add to `values` in {where}",
        )
    if column.unique:
        yield pandera.Check(
            lambda values: ~values.duplicated(keep=False),
            name="unique",
            error="must differ from row to row",
            description=f"drop the duplicates in the source, or remove `unique` in {where}",
        )


def _time_checks(spec: DatasetSpec, partition: str, today: date | None) -> Iterator[pandera.Check]:
    bounds = period_bounds(partition, spec.period)
    if bounds is not None:
        start, end = bounds
        yield pandera.Check(
            lambda times: (times >= start) & (times < end),
            name="period",
            error=f"must lie within {partition}",
            description="let the source give each partition its own rows only",
        )
    if today is not None:
        tomorrow = pd.Timestamp(today + timedelta(days=1))
        yield pandera.Check(
            lambda times: times < tomorrow,
            name="future",
            error=f"must not lie after today, {today.isoformat()}",
            description="correct the dates in the source, or this machine's clock",
        )


def _key_checks(spec: DatasetSpec) -> list[pandera.Check]:
    if not spec.key:
        return []

    def differs(frame: pd.DataFrame) -> pd.Series[bool]:
        if not set(spec.key) <= set(frame.columns):  # refused already, for the column that is not there
            return pd.Series(True, index=frame.index)
        return ~frame.duplicated(list(spec.key), keep=False)

    return [
        pandera.Check(
            differs,
            name="key",
            error="must name one row",
            description=f"drop the duplicates in the source, or extend `key` in {_file(spec)}",
            ignore_na=False,
        )
    ]


def _faults_of_values(
    typed: pd.DataFrame, schema: pandera.DataFrameSchema, spec: DatasetSpec
) -> Iterator[Fault]:
    try:
        schema.validate(typed, lazy=True)
    except pandera.errors.SchemaErrors as refused:
        for error in refused.schema_errors:
            rows = error.failure_cases["index"].drop_duplicates()
            yield _fault_of_check(error.check, error.schema.name, typed.loc[rows], spec)


def _fault_of_check(check: pandera.Check, column: str, broken: pd.DataFrame, spec: DatasetSpec) -> Fault:
    """The fault of the rows `broken`; `column` means nothing for the check on the key."""
    match check.name:
        case "key":
            subject = f"key ({', '.join(spec.key)})"
            example = ", ".join(str(broken[name].iloc[0]) for name in spec.key)
        case "missing":
            subject, example = f"column `{column}`", f"row {broken.index[0]}"
        case _:
            subject, example = f"column `{column}`", str(broken[column].iloc[0])
    return Fault(subject, check.error, check.description, Rows(len(broken), example))


def _refusal(spec: DatasetSpec, partition: str, rows: int, faults: list[Fault]) -> str:
    lines = [f"data/{spec.name}: partition {partition} breaks the rules of {_file(spec)}:"]
    for fault in faults:
        broken = ""
        if fault.rows is not None:
            broken = f": {fault.rows.count} of {rows} rows break this, such as {fault.rows.example}"
        lines.append(f"  - {fault.subject} {fault.rule}{broken}. To mend it: {fault.mend}.")
    return "\n".join(lines)


def _canonical(typed: pd.DataFrame, spec: DatasetSpec) -> pd.DataFrame:
    frame = typed.astype({name: canonical_dtype(column) for name, column in spec.columns.items()})
    if not spec.key:
        return frame
    # The key orders the rows fully: a source may give them in any order.
    return frame.sort_values(list(spec.key), ignore_index=True)


def _file(spec: DatasetSpec) -> str:
    return str(dataset_folder(spec.name) / "dataset.yaml")
