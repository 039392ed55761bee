"""Time order for partitions, stable sides for files, folds that never look ahead."""

import numpy as np
import pandas as pd
import pytest

from coalmine.errors import DataRefused
from coalmine.evaluation.splits import folds, is_test_row, split_partitions
from coalmine.spec import Column, DatasetSpec, Source, Split

MONTHS = [f"2013-{month:02}" for month in (3, 1, 2, 5, 4)]


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (2, 1, (("2013-03", "2013-04"), ("2013-05",))),
        (9, 1, (("2013-01", "2013-02", "2013-03", "2013-04"), ("2013-05",))),
        (1, 2, (("2013-03",), ("2013-04", "2013-05"))),
    ],
    ids=["the newest is the test", "as many as there are", "two to test"],
)
def test_partitions_split_by_time(train, test, expected):
    split = split_partitions(MONTHS, Split(train_partitions=train, test_partitions=test), "flights")
    assert (split.train, split.test) == expected


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(DataRefused, match=r"1 partition.*needs at least 2.*coalmine ingest flights"):
        split_partitions(["2013-01"], Split(), "flights")


def dataset(**more) -> DatasetSpec:
    columns = {
        name: Column(type=type_) for name, type_ in (("a", "integer"), ("b", "string"), ("g", "string"))
    }
    return DatasetSpec(name="d", source=Source(files="d.csv"), columns=columns, **more)


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"a": range(rows), "b": [f"b{n}" for n in range(rows)], "g": [f"g{n % 40}" for n in range(rows)]}
    )


def test_rows_keep_their_side_when_the_file_grows_shrinks_and_gets_gaps():
    rows = frame(2000)
    side = is_test_row(rows, dataset(), Split())
    assert 0.2 < side.mean() < 0.3
    more = pd.concat(
        [pd.DataFrame({"a": [None], "b": [None], "g": ["new"]}), rows.sample(frac=0.9, random_state=0)]
    )
    again = is_test_row(more.astype({"a": "Int64"}), dataset(), Split())
    assert np.array_equal(again[1:], side[more["a"].to_numpy()[1:].astype(int)])


def test_another_seed_is_another_split():
    first, second = (is_test_row(frame(2000), dataset(), Split(seed=seed)) for seed in (0, 1))
    assert 0.25 < (first == second).mean() < 0.75


def test_rows_of_one_group_are_on_one_side():
    rows = frame(2000)
    sides = pd.Series(is_test_row(rows, dataset(group="g"), Split())).groupby(rows["g"]).nunique()
    assert set(sides) == {1}


def test_folds_with_a_time_validate_on_what_follows_and_never_cut_a_group():
    days = pd.date_range("2013-01-01", periods=40).repeat(5)
    rows = pd.DataFrame({"time": days, "day": days.strftime("%d %m")}).sample(
        frac=1, random_state=0, ignore_index=True
    )
    cuts = folds(rows, "day", "time", 3, 0)
    assert len(cuts) == 3
    for learn, validate in cuts:
        assert rows["time"].iloc[learn].max() < rows["time"].iloc[validate].min()
        assert not set(rows["day"].iloc[learn]) & set(rows["day"].iloc[validate])


def test_folds_without_a_time_cover_every_row_once():
    cuts = folds(frame(100), "g", None, 4, 0)
    assert sorted(np.concatenate([validate for _, validate in cuts])) == list(range(100))


def test_more_folds_than_groups_are_refused():
    with pytest.raises(DataRefused, match="needs at least 50 values of `g`"):
        folds(frame(100), "g", None, 50, 0)
