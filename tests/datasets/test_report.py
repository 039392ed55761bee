from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from coalmine.datasets.report import column_figures, dump_report
from coalmine.datasets.schema import check_partition
from coalmine.spec import DatasetSpec


@pytest.fixture
def report(frame: pd.DataFrame, spec: DatasetSpec) -> dict[str, Any]:
    second = frame.assign(price=[10.0, 20.0, 30.0, None], new=[None, None, False, True])
    parts = {"2013-01": frame, "2013-02": second}
    figures = {
        name: column_figures(check_partition(rows, spec, "2013-01", None), spec)
        for name, rows in parts.items()
    }
    text = dump_report(spec, figures)
    assert text == dump_report(spec, figures)
    read: dict[str, Any] = json.loads(text)
    return read


def by_column(listed: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry.pop("column"): entry for entry in listed}


def test_totals_are_those_of_all_rows(report: dict[str, Any]) -> None:
    assert (report["rows"], report["partition_count"]) == (8, 2)
    assert report["missing"] == {"price": 0.25, "coupons": 0.5, "new": 0.375}
    columns = by_column(report["columns"])
    assert columns["price"] == {"missing": 0.25, "min": 1.5, "max": 30.0, "mean": 11.0833}
    assert columns["new"] == {"missing": 0.375, "min": 0.0, "max": 1.0, "mean": 0.6}
    assert columns["email"] == {"missing": 0.0}


def test_each_partition_has_its_own_figures(report: dict[str, Any]) -> None:
    first, second = report["partitions"]
    assert (first["partition"], first["rows"]) == ("2013-01", 4)
    assert by_column(first["columns"])["price"] == {
        "missing": 0.25,
        "min": 1.5,
        "max": 3.0,
        "mean": 2.16667,
    }
    assert by_column(second["columns"])["price"]["max"] == 30.0


def test_a_column_without_values_has_no_range(frame: pd.DataFrame, orders: dict[str, Any]) -> None:
    orders["columns"]["coupons"]["missing"] = 1
    spec = DatasetSpec.model_validate(orders)
    checked = check_partition(frame.assign(coupons=None), spec, "2013-01", None)
    empty = column_figures(checked, spec)["coupons"]
    assert empty.to_json() == {"missing": 1.0}
    both = empty + column_figures(check_partition(frame, spec, "2013-01", None), spec)["coupons"]
    assert both.to_json() == {"missing": 0.75, "min": 0.0, "max": 2.0, "mean": 1.0}
