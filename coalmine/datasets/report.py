"""What a dataset holds, as figures: data/<dataset>/report.json.

Figures of partitions are added up, so that rows are read once and one partition at a time.
The same partitions give the same bytes.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from coalmine.spec import ColumnType, DatasetSpec

_MEASURED = (ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.BOOLEAN)


@dataclass(frozen=True)
class ColumnFigures:
    """Figures of one column. `lowest` and `highest` are None where there is nothing to measure:
    texts, times, and columns without a value."""

    rows: int
    missing: int
    lowest: float | None = None
    highest: float | None = None
    total: float = 0.0

    def __add__(self, other: ColumnFigures) -> ColumnFigures:
        lows = [value for value in (self.lowest, other.lowest) if value is not None]
        highs = [value for value in (self.highest, other.highest) if value is not None]
        return ColumnFigures(
            self.rows + other.rows,
            self.missing + other.missing,
            min(lows, default=None),
            max(highs, default=None),
            self.total + other.total,
        )

    def to_json(self) -> dict[str, float]:
        figures = {"missing": _rounded(self.missing / self.rows)}
        if self.lowest is not None and self.highest is not None:
            mean = self.total / (self.rows - self.missing)
            figures |= {"min": _rounded(self.lowest), "max": _rounded(self.highest), "mean": _rounded(mean)}
        return figures


def column_figures(frame: pd.DataFrame, spec: DatasetSpec) -> dict[str, ColumnFigures]:
    """The figures of each column of a partition in canonical form."""
    return {name: _figures(frame[name], column.type) for name, column in spec.columns.items()}


def dump_report(spec: DatasetSpec, partitions: Mapping[str, Mapping[str, ColumnFigures]]) -> str:
    """The report of `partitions`, at least one. What stands in lists is for people: DVC's metrics
    show mappings only, and a thousand partitions would bury the figures that matter there."""
    whole = {
        name: functools.reduce(ColumnFigures.__add__, (figures[name] for figures in partitions.values()))
        for name in spec.columns
    }
    report = {
        "partition_count": len(partitions),
        "rows": _rows(whole),
        "missing": {name: _rounded(whole[name].missing / whole[name].rows) for name in _may_be_missing(spec)},
        "columns": _listed(whole),
        "partitions": [
            {"partition": name, "rows": _rows(figures), "columns": _listed(figures)}
            for name, figures in partitions.items()
        ],
    }
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _figures(values: pd.Series[Any], type_: ColumnType) -> ColumnFigures:
    missing = int(values.isna().sum())
    if type_ not in _MEASURED or missing == len(values):
        return ColumnFigures(len(values), missing)
    numbers = values.dropna().astype("float64")
    return ColumnFigures(len(values), missing, numbers.min(), numbers.max(), math.fsum(numbers))


def _rows(figures: Mapping[str, ColumnFigures]) -> int:
    return next(iter(figures.values())).rows


def _may_be_missing(spec: DatasetSpec) -> list[str]:
    return [name for name, column in spec.columns.items() if column.missing]


def _listed(figures: Mapping[str, ColumnFigures]) -> list[dict[str, Any]]:
    return [{"column": name, **column.to_json()} for name, column in figures.items()]


def _rounded(value: float) -> float:
    """To six digits, which hides what differs between processors."""
    return float(f"{value:.6g}")
