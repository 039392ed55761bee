"""The left join of lookups: which rows find what, and in which dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from coalmine.datasets.join import join_lookups
from coalmine.datasets.partitions import partition_bytes
from coalmine.errors import DataRefused, NotFound
from coalmine.spec import DatasetSpec, ModelSpec

SHOPS = DatasetSpec.model_validate(
    {
        "name": "shops",
        "source": {"files": "x.csv"},
        "columns": {
            "shop": {"type": "string"},
            "floor": {"type": "integer"},
            "staff": {"type": "integer"},
            "area": {"type": "number", "missing": 0.5},
            "town": {"type": "string", "missing": 0.5},
            "open": {"type": "boolean"},
        },
    }
)
OLD = pd.DataFrame(
    {
        "shop": ["north", "north"],
        "floor": [0, 1],
        "staff": [3, 2],
        "area": [80.0, None],
        "town": ["Ulm", "Ulm"],
        "open": [True, False],
    }
)
NEW = pd.DataFrame(
    {"shop": ["south"], "floor": [0], "staff": [9], "area": [120.5], "town": [None], "open": [True]}
).astype({"town": "str"})
ROWS = pd.DataFrame(
    {"shop": ["south", "north", "north", "south"], "floor": [0, 1, 0, 0], "sold": [1, 2, 3, 4]}
)
ADDED = ("staff", "area", "town", "open")


def model(missing: str | None, key: tuple[str, ...] = ("shop", "floor")) -> ModelSpec:
    lookup = {"dataset": "shops", "key": list(key), "columns": list(ADDED), "missing": missing}
    return ModelSpec.model_validate(
        {
            "name": "seller",
            "dataset": "sales",
            "task": "regression",
            "target": "sold",
            "features": ["staff"],
            "lookups": [lookup],
            "split": {},
            "estimator": {"class": "sklearn.linear_model.LinearRegression"},
            "tuning": None,
            "evaluation": {"metrics": ["mae"]},
        }
    )


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "data/shops/partitions"
    folder.mkdir(parents=True)
    for name, rows in (("2013", OLD), ("2014", NEW)):
        (folder / f"{name}.parquet").write_bytes(partition_bytes(rows))
    return tmp_path


def join(top: Path, rows: pd.DataFrame, missing: str | None, **changes: Any) -> pd.DataFrame:
    return join_lookups(top, rows, model(missing, **changes), {"shops": SHOPS})


@pytest.mark.parametrize("missing", ["refuse", None])
def test_rows_keep_their_order_and_find_their_own_from_every_partition(
    top: Path, missing: str | None
) -> None:
    joined = join(top, ROWS, missing)
    assert list(joined.columns) == [*ROWS.columns, *ADDED]
    assert joined[list(ROWS.columns)].equals(ROWS)
    assert joined["staff"].tolist() == [9, 2, 3, 9]
    assert joined["area"].fillna(-1).tolist() == [120.5, -1, 80, 120.5]
    assert joined["town"].fillna("").tolist() == ["", "Ulm", "Ulm", ""]
    assert joined["open"].tolist() == [True, False, True, True]


def test_a_key_that_is_not_there_stops_everything_and_is_shown(top: Path) -> None:
    rows = ROWS.assign(floor=[0, 7, 0, 8])
    with pytest.raises(DataRefused, match="models/seller: 2 of 4 rows") as refused:
        join(top, rows, "refuse")
    assert "such as shop north, floor 7. " in str(refused.value)
    assert "coalmine ingest shops" in str(refused.value)
    assert "`missing: null`" in str(refused.value)


def test_a_key_that_need_not_be_there_leaves_the_columns_missing(top: Path) -> None:
    joined = join(top, ROWS.assign(floor=[0, 7, 0, 0]), None)
    assert joined[list(ADDED)].isna().all(axis=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize(("missing", "dtypes"), [("refuse", ["int64", "bool"]), (None, ["Int64", "boolean"])])
def test_dtypes_do_not_depend_on_the_rows_at_hand(top: Path, missing: str | None, dtypes: list[str]) -> None:
    everything_found = join(top, ROWS, missing)
    assert [str(everything_found[name].dtype) for name in ("staff", "open")] == dtypes
    if missing is None:
        nothing_found = join(top, ROWS.assign(floor=99), missing)
        assert nothing_found.dtypes.equals(everything_found.dtypes)


@pytest.mark.parametrize("missing", ["refuse", None])
def test_rows_without_a_key_find_nothing(top: Path, missing: str | None) -> None:
    rows = ROWS.assign(floor=pd.array([0, None, 0, 0], dtype="Int64"))
    if missing == "refuse":
        with pytest.raises(DataRefused, match=r"1 of 4 rows have a key that .*floor <NA>"):
            join(top, rows, missing)
    else:
        assert join(top, rows, missing)["staff"].isna().tolist() == [False, True, False, False]


def test_a_key_that_names_two_rows_is_refused(top: Path) -> None:
    with pytest.raises(DataRefused, match="data/shops: 1 of 3 rows have a key that an earlier row has too"):
        join(top, ROWS, None, key=("shop",))


def test_a_lookup_without_partitions_says_how_to_get_one(top: Path) -> None:
    for path in (top / "data/shops/partitions").iterdir():
        path.unlink()
    with pytest.raises(NotFound, match="coalmine ingest shops"):
        join(top, ROWS, None)
