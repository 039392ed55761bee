from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd
import pytest

from coalmine.datasets.schema import check_partition
from coalmine.errors import DataRefused
from coalmine.spec import DatasetSpec

TODAY = date(2013, 2, 1)


def refusal(frame: pd.DataFrame, spec: DatasetSpec, partition: str = "2013-01", today: date = TODAY) -> str:
    with pytest.raises(DataRefused) as refused:
        check_partition(frame, spec, partition, today)
    return str(refused.value)


def test_a_good_partition_is_taken_in_canonical_form(frame: pd.DataFrame, spec: DatasetSpec) -> None:
    shuffled = frame.sample(frac=1, random_state=1)[sorted(frame.columns)]
    checked = check_partition(shuffled, spec, "2013-01", TODAY)
    assert {name: str(dtype) for name, dtype in checked.dtypes.items()} == {
        "ordered": "datetime64[us]",
        "order": "int64",
        "price": "float64",
        "country": "str",
        "coupons": "Int64",
        "new": "boolean",
        "email": "str",
    }
    assert list(checked.columns) == list(spec.columns)
    assert list(checked["order"]) == [1, 2, 3, 4]
    assert list(checked["country"]) == ["DE", "NA", "US", "DE"]


BREAKS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": (lambda f: f.drop(columns="price"), "column `price` is missing. To mend it: add it"),
    "misspelt column": (
        lambda f: f.rename(columns={"country": "contry"}),
        "column `country` is missing. To mend it: is it `contry`?",
    ),
    "extra column": (
        lambda f: f.assign(note="x"),
        "column `note` is not described in data/orders/dataset.yaml",
    ),
    "column twice": (
        lambda f: pd.concat([f, f[["price"]]], axis="columns"),
        "column `price` is there more than once",
    ),
    "wrong type": (
        lambda f: f.assign(price=["1", "two", "3", "4"]),
        "column `price` must hold finite numbers: 1 of 4 rows break this, such as 'two'",
    ),
    "too many missing": (
        lambda f: f.assign(price=[None, None, None, 1.0]),
        "column `price` may lack at most 50 % of its values: 3 of 4 rows break this, such as row 0",
    ),
    "missing where none may be": (
        lambda f: f.assign(email=["a", None, "c", "d"]),
        "column `email` may lack no value: 1 of 4 rows break this, such as row 1",
    ),
    "below the minimum": (
        lambda f: f.assign(order=[1, 0, -5, 4]),
        "column `order` must be at least 1: 2 of 4 rows break this, such as 0",
    ),
    "above the maximum": (
        lambda f: f.assign(order=[1, 2, 3, 1001]),
        "column `order` must be at most 1000: 1 of 4 rows break this, such as 1001",
    ),
    "value not allowed": (
        lambda f: f.assign(country=["DE", "FR", "US", "FR"]),
        "column `country` must be one of DE, NA, US: 2 of 4 rows break this, such as FR",
    ),
    "value twice": (
        lambda f: f.assign(email=["a", "b", "b", "d"]),
        "column `email` must differ from row to row: 2 of 4 rows break this, such as b",
    ),
    "key twice": (
        lambda f: f.assign(order=[1, 2, 2, 4]),
        "key (order) must name one row: 2 of 4 rows break this, such as 2",
    ),
    "before the period": (
        lambda f: f.assign(ordered=[pd.Timestamp("2012-12-31T23:59"), *f["ordered"][1:]]),
        "column `ordered` must lie within 2013-01: 1 of 4 rows break this, such as 2012-12-31 23:59:00",
    ),
    "after the period": (
        lambda f: f.assign(ordered=[pd.Timestamp("2013-02-01"), *f["ordered"][1:]]),
        "column `ordered` must lie within 2013-01: 1 of 4 rows break this, such as 2013-02-01 00:00:00",
    ),
    "no rows": (lambda f: f[:0], "the partition must hold rows"),
    "no rows and no columns": (lambda _: pd.DataFrame(), "the partition must hold rows"),
}


@pytest.mark.parametrize(("spoil", "said"), BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_rule_is_refused_with_column_rule_count_and_example(
    spoil: Callable[[pd.DataFrame], pd.DataFrame], said: str, frame: pd.DataFrame, spec: DatasetSpec
) -> None:
    message = refusal(spoil(frame), spec)
    assert said in message
    assert message.startswith("data/orders: partition 2013-01")
    assert all("To mend it: " in line for line in message.splitlines()[1:])


def test_only_the_broken_rule_is_reported(frame: pd.DataFrame, spec: DatasetSpec) -> None:
    assert len(refusal(frame.assign(order=[1, 2, 3, 1001]), spec).splitlines()) == 2


def test_every_fault_of_a_partition_is_reported_at_once(frame: pd.DataFrame, spec: DatasetSpec) -> None:
    spoiled = frame.assign(order=[0, 2, 2, 4], price=["x", "1", "2", "3"], note="n").drop(columns="new")
    message = refusal(spoiled, spec)
    for subject in ("column `order`", "key (order)", "column `price`", "column `note`", "column `new`"):
        assert subject in message


def test_rows_after_today_are_refused_and_rows_of_today_are_not(
    frame: pd.DataFrame, spec: DatasetSpec
) -> None:
    check_partition(frame, spec, "2013-01", date(2013, 1, 31))
    message = refusal(frame, spec, today=date(2013, 1, 30))
    assert "column `ordered` must not lie after today, 2013-01-30: 1 of 4 rows break this" in message


def test_a_key_column_that_is_missing_is_one_fault(frame: pd.DataFrame, spec: DatasetSpec) -> None:
    assert len(refusal(frame.drop(columns="order"), spec).splitlines()) == 2


def test_a_dataset_without_period_takes_any_time_up_to_today(
    frame: pd.DataFrame, orders: dict[str, Any]
) -> None:
    spec = DatasetSpec.model_validate(orders | {"period": "none"})
    earlier = frame.assign(ordered=frame["ordered"] - pd.Timedelta(days=900))
    assert len(check_partition(earlier, spec, "all", TODAY)) == 4


def test_a_partition_name_of_another_period_is_refused(frame: pd.DataFrame, spec: DatasetSpec) -> None:
    assert "write it like 2013-01" in refusal(frame, spec, partition="2013-01-05")
