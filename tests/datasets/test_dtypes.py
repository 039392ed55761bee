from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from coalmine.datasets.dtypes import as_checked, canonical_dtype, misfits
from coalmine.spec import Column, ColumnType

INTEGER, NUMBER, STRING = ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.STRING
BOOLEAN, DATETIME = ColumnType.BOOLEAN, ColumnType.DATETIME


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        pytest.param(pd.Series([1.0, None, 3.0]), INTEGER, [1, None, 3], id="whole floats are integers"),
        pytest.param(
            pd.Series([2**60 + 1, None], dtype=object), INTEGER, [2**60 + 1, None], id="no digit lost"
        ),
        pytest.param(pd.Series([1, 2], dtype="uint8"), INTEGER, [1, 2], id="small integers"),
        pytest.param(pd.Series([1, 2]), NUMBER, [1.0, 2.0], id="integers are numbers"),
        pytest.param(pd.Series([Decimal("1.5"), None]), NUMBER, [1.5, None], id="decimals are numbers"),
        pytest.param(
            pd.Series(["a", None]).astype("category"), STRING, ["a", None], id="categories of texts"
        ),
        pytest.param(pd.Series([True, None, False]), BOOLEAN, [True, None, False], id="booleans with a gap"),
        pytest.param(pd.Series([date(2013, 1, 2)]), DATETIME, [datetime(2013, 1, 2)], id="dates"),
        pytest.param(
            pd.Series([datetime(2013, 1, 2, 5, tzinfo=UTC)]).dt.tz_convert("America/New_York"),
            DATETIME,
            [datetime(2013, 1, 2, 5)],
            id="zoned times become UTC",
        ),
        pytest.param(pd.Series([None, None]), DATETIME, [None, None], id="nothing but gaps"),
    ],
)
def test_values_that_fit_take_the_dtype_of_their_type(values: Any, type_: ColumnType, expected: Any) -> None:
    assert not misfits(values, type_).any()
    checked = as_checked(values, type_)
    assert checked.dtype == pd.Series([], dtype=canonical_dtype(Column(type=type_, missing=0.5))).dtype
    assert [None if pd.isna(value) else value for value in checked] == expected


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        pytest.param([1.0, 1.5, None], INTEGER, [1], id="a fraction"),
        pytest.param([1.0, float("inf")], NUMBER, [1], id="infinity"),
        pytest.param([2**63, 1], INTEGER, [0], id="an integer beyond 64 bits"),
        pytest.param(["1", "n/a", None], INTEGER, [1], id="the text that is no number"),
        pytest.param(["1", "2", None], NUMBER, [0, 1], id="all texts, when all could be read"),
        pytest.param(["2013-01-01", "soon"], DATETIME, [1], id="the text that is no date"),
        pytest.param([20130101, 20130102], DATETIME, [0, 1], id="numbers are no dates"),
        pytest.param(["a", 7], STRING, [1], id="a number among texts"),
        pytest.param([0, 1], BOOLEAN, [0, 1], id="0 and 1 are no booleans"),
        pytest.param([True, "maybe"], BOOLEAN, [1], id="a text among booleans"),
        pytest.param([True, False], INTEGER, [0, 1], id="booleans are no integers"),
    ],
)
def test_misfits_are_the_rows_that_spoil_the_column(
    values: list[Any], type_: ColumnType, expected: list[int]
) -> None:
    wrong = misfits(pd.Series(values), type_)
    assert list(wrong[wrong].index) == expected


def test_the_dtype_of_a_column_follows_from_its_description_alone() -> None:
    assert canonical_dtype(Column(type=INTEGER)) == "int64"
    assert canonical_dtype(Column(type=INTEGER, missing=0.1)) == "Int64"
