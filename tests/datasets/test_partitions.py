from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from coalmine.datasets.partitions import (
    check_name,
    list_partitions,
    names_of_times,
    partition_bytes,
    partition_path,
    period_bounds,
    read_partitions,
)
from coalmine.datasets.schema import check_partition
from coalmine.errors import DataRefused, IntegrityError, NotFound
from coalmine.spec import DatasetSpec, PartitionPeriod

DAY, MONTH, YEAR = PartitionPeriod.DAY, PartitionPeriod.MONTH, PartitionPeriod.YEAR
NONE = PartitionPeriod.NONE


@pytest.mark.parametrize(
    ("name", "period", "start", "end"),
    [
        ("2012-02-29", DAY, datetime(2012, 2, 29), datetime(2012, 3, 1)),
        ("2013-01", MONTH, datetime(2013, 1, 1), datetime(2013, 2, 1)),
        ("2013-12", MONTH, datetime(2013, 12, 1), datetime(2014, 1, 1)),
        ("2013", YEAR, datetime(2013, 1, 1), datetime(2014, 1, 1)),
    ],
)
def test_a_name_covers_its_period_up_to_the_next(
    name: str, period: PartitionPeriod, start: datetime, end: datetime
) -> None:
    assert period_bounds(name, period) == (start, end)
    edges = pd.Series(pd.to_datetime([start, end - pd.Timedelta(microseconds=1), end]))
    assert list(names_of_times(edges, period) == name) == [True, True, False]


def test_a_dataset_without_period_has_one_name_and_no_bounds() -> None:
    assert period_bounds("all", NONE) is None


@pytest.mark.parametrize(
    ("name", "period"),
    [
        ("2013-1", MONTH),
        ("2013-13", MONTH),
        ("2013-01-31", MONTH),
        ("2013-02-29", DAY),
        ("13", YEAR),
        ("all", MONTH),
        ("2013-01", NONE),
        ("../2013-01", MONTH),
        ("", MONTH),
    ],
)
def test_other_names_are_refused_with_an_example(name: str, period: PartitionPeriod) -> None:
    with pytest.raises(DataRefused, match="write it like"):
        check_name(name, period)


def put(folder: Path, **partitions: pd.DataFrame) -> None:
    for name, frame in partitions.items():
        partition_path(folder, name).write_bytes(partition_bytes(frame))


def test_partitions_are_listed_by_time_and_other_files_are_not(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1]})
    put(tmp_path, **{"2013-10": frame, "2012-12": frame, "2013-02": frame})
    (tmp_path / "notes.txt").touch()
    assert list_partitions(tmp_path) == ["2012-12", "2013-02", "2013-10"]
    assert list_partitions(tmp_path / "nowhere") == []


def test_partitions_are_read_in_the_order_asked_for_with_the_columns_asked_for(tmp_path: Path) -> None:
    put(tmp_path, new=pd.DataFrame({"a": [3], "b": ["z"]}), old=pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    rows = read_partitions(tmp_path, ["old", "new"], ["b", "a"])
    assert rows.to_dict("list") == {"b": ["x", "y", "z"], "a": [1, 2, 3]}
    assert list(rows.columns) == ["b", "a"]
    assert list(rows.index) == [0, 1, 2]


def test_a_canonical_frame_survives_the_file_and_gives_the_same_bytes(
    frame: pd.DataFrame, spec: DatasetSpec, tmp_path: Path
) -> None:
    checked = check_partition(frame, spec, "2013-01", None)
    put(tmp_path, **{"2013-01": checked})
    back = read_partitions(tmp_path, ["2013-01"])
    pd.testing.assert_frame_equal(back, checked)
    again = check_partition(frame[::-1], spec, "2013-01", None)
    assert partition_bytes(again) == partition_bytes(back) == partition_path(tmp_path, "2013-01").read_bytes()


def test_a_column_keeps_its_dtype_over_partitions_with_and_without_gaps(
    frame: pd.DataFrame, spec: DatasetSpec, tmp_path: Path
) -> None:
    full = frame.assign(coupons=[1, 2, 3, 4], new=[True, True, False, False])
    for name, rows in {"a": frame, "b": full}.items():
        put(tmp_path, **{name: check_partition(rows, spec, "2013-01", None)})
    rows = read_partitions(tmp_path, ["a", "b"], ["coupons", "new", "country"])
    assert [str(dtype) for dtype in rows.dtypes] == ["Int64", "boolean", "str"]


def test_a_partition_that_is_not_here_is_named_with_those_that_are(tmp_path: Path) -> None:
    put(tmp_path, **{"2013-01": pd.DataFrame({"a": [1]})})
    with pytest.raises(NotFound, match=r"2013-02\.parquet does not exist\. Partitions here: 2013-01"):
        read_partitions(tmp_path, ["2013-01", "2013-02"])


def test_a_column_that_a_partition_lacks_is_named(tmp_path: Path) -> None:
    put(tmp_path, **{"2013-01": pd.DataFrame({"a": [1]})})
    with pytest.raises(DataRefused, match=r"has no column `b`\. It has: a"):
        read_partitions(tmp_path, ["2013-01"], ["a", "b"])


@pytest.mark.parametrize("content", [b"", b"PAR1 torn"], ids=["empty", "torn"])
def test_a_file_that_is_no_parquet_says_how_to_take_the_recorded_one(tmp_path: Path, content: bytes) -> None:
    partition_path(tmp_path, "2013-01").write_bytes(content)
    with pytest.raises(IntegrityError, match="dvc checkout"):
        read_partitions(tmp_path, ["2013-01"])
