"""Which rows go where, the same every time; and what is refused before anything is written."""

from __future__ import annotations

import pandas as pd
import pytest

from coalmine.errors import DataRefused, NotFound, SpecError
from coalmine.evaluation.prepared import read_split, read_test, read_train
from pipelines.prepare import prepare

SHOPS = {"dataset": "shops", "key": ["shop"], "columns": ["size"]}


def digests(workshop):
    return {path.name: path.read_bytes() for path in (workshop.model / "prepared").iterdir()}


def test_the_newest_partition_is_the_test_and_the_ones_before_are_learnt_from(workshop):
    prepare(workshop.top, "buyers")
    split = read_split(workshop.model / "prepared")
    assert split.train.partitions == ("2013-02", "2013-03")
    assert split.test.partitions == ("2013-04",)
    assert split.test_label == "2013-04"
    train, test = read_train(workshop.model / "prepared"), read_test(workshop.model / "prepared")
    assert train["at"].max() < test["at"].min()
    assert (len(train), len(test)) == (split.train.rows, split.test.rows) == (1120, 560)


def test_both_sides_hold_every_column_for_older_champions_and_new_slices(workshop):
    prepare(workshop.top, "buyers")
    assert list(read_test(workshop.model / "prepared").columns) == [
        "at", "day", "minutes", "pages", "shop", "bought", "spent",
    ]  # fmt: skip


def test_the_same_rows_give_the_same_bytes(workshop):
    prepare(workshop.top, "buyers")
    first = digests(workshop)
    prepare(workshop.top, "buyers")
    assert digests(workshop) == first


def test_complete_rows_leaves_out_gaps_in_features_on_both_sides_and_counts_them(workshop):
    workshop.write_model(split={"train_partitions": 2, "rows": "complete"})
    prepare(workshop.top, "buyers")
    split = read_split(workshop.model / "prepared")
    for side, rows in ((split.train, read_train), (split.test, read_test)):
        assert rows(workshop.model / "prepared")["minutes"].notna().all()
        assert side.incomplete > 0
    assert split.test.rows + split.test.incomplete == 560


def test_rows_without_an_answer_are_left_out_and_counted(workshop, make_visits):
    rows = make_visits("2013-04").astype({"bought": "Int64"})
    rows.loc[:4, "bought"] = None
    workshop.write_partition("2013-04", rows)
    prepare(workshop.top, "buyers")
    assert read_split(workshop.model / "prepared").test.without_target == 5


def test_a_file_without_a_time_splits_by_row(workshop, make_visits):
    for path in workshop.partitions.iterdir():
        path.unlink()
    workshop.write_partition("all", make_visits("2013-01"))
    workshop.write_dataset(period="none", time=None, group=None)
    prepare(workshop.top, "buyers")
    split = read_split(workshop.model / "prepared")
    assert split.train.rows + split.test.rows == 560
    assert split.test_label == "the test rows"


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"features": ["minute"]}, SpecError, "`features` names `minute`.*did you mean `minutes`"),
        ({"features": ["zzz"]}, SpecError, "data/visits does not have: there are: at, bought"),
        ({"target": "buoght"}, SpecError, "`target` names `buoght`.*did you mean `bought`"),
        ({"features": ["at"]}, SpecError, "a datetime, which no model takes"),
        ({"target": "pages", "features": ["minutes"]}, DataRefused, "has 8 values.*task: multiclass"),
        ({"target": "shop", "task": "regression"}, SpecError, "needs a target of numbers"),
        ({"split": {"test_partitions": 4}}, DataRefused, "needs at least 5"),
    ],
    ids=[
        "near feature",
        "no such feature",
        "target",
        "datetime",
        "classes",
        "regression of text",
        "partitions",
    ],
)
def test_a_spec_that_does_not_fit_the_data_is_refused_and_nothing_is_written(workshop, changes, error, said):
    workshop.write_model(**changes)
    with pytest.raises(error, match=said):
        prepare(workshop.top, "buyers")
    assert not (workshop.model / "prepared").exists()


@pytest.mark.parametrize(("month", "side"), [("2013-04", "test"), ("2013-02", "train")])
def test_a_target_with_one_class_is_refused(workshop, make_visits, month, side):
    workshop.write_model(split={"train_partitions": 1, "test_partitions": 1})
    if side == "train":
        (workshop.partitions / "2013-04.parquet").unlink()
        (workshop.partitions / "2013-03.parquet").rename(workshop.partitions / "2013-04.parquet")
    workshop.write_partition(month, make_visits(month).assign(bought=1))
    with pytest.raises(DataRefused, match=f"`bought` is 1 in every {side} row"):
        prepare(workshop.top, "buyers")


def test_a_side_without_rows_is_refused(workshop, make_visits):
    workshop.write_partition("2013-04", make_visits("2013-04").assign(minutes=float("nan")))
    workshop.write_model(split={"train_partitions": 2, "rows": "complete"})
    with pytest.raises(DataRefused, match="the test side has no rows left"):
        prepare(workshop.top, "buyers")


def test_no_partition_says_how_to_get_one(workshop):
    for path in workshop.partitions.iterdir():
        path.unlink()
    with pytest.raises(NotFound, match="coalmine ingest visits"):
        prepare(workshop.top, "buyers")


# --- lookups ---------------------------------------------------------------------------


@pytest.fixture
def with_shops(workshop):
    """The model looks up the sizes of the shops."""
    workshop.write_model(lookups=[SHOPS], features=["minutes", "size"])
    workshop.write_stages("shops")
    shops = {"shop": {"type": "string"}, "size": {"type": "integer"}, "seen": {"type": "datetime"}}
    workshop.write_lookup("shops", shops, pd.DataFrame({"shop": ["north", "south"], "size": [7, 9]}))
    return workshop


def test_both_sides_get_what_the_lookup_adds(with_shops):
    prepare(with_shops.top, "buyers")
    for rows in (read_train(with_shops.model / "prepared"), read_test(with_shops.model / "prepared")):
        assert list(rows.columns)[-2:] == ["spent", "size"]
        assert (rows["size"] == rows["shop"].map({"north": 7, "south": 9})).all()


def test_a_dataset_without_periods_gets_it_too_and_keeps_its_sides(with_shops, make_visits):
    for path in with_shops.partitions.iterdir():
        path.unlink()
    with_shops.write_partition("all", make_visits("2013-01"))
    with_shops.write_dataset(period="none", time=None, group=None)
    prepare(with_shops.top, "buyers")
    joined = read_test(with_shops.model / "prepared")
    with_shops.write_model()
    prepare(with_shops.top, "buyers")
    assert joined.drop(columns="size").equals(read_test(with_shops.model / "prepared"))


def test_a_row_that_finds_nothing_is_incomplete(with_shops):
    with_shops.write_lookup("shops", None, pd.DataFrame({"shop": ["north"], "size": [7]}))
    with_shops.write_model(
        lookups=[{**SHOPS, "missing": None}], features=["size"], split={"rows": "complete"}
    )
    prepare(with_shops.top, "buyers")
    assert set(read_test(with_shops.model / "prepared")["shop"]) == {"north"}
    split = read_split(with_shops.model / "prepared")
    assert split.test.rows + split.test.incomplete == 560


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"features": ["siez"]}, SpecError, "and no lookup adds: did you mean `size`"),
        ({"target": "size", "features": ["pages"]}, SpecError, "`target` names `size`.*does not have: "),
        ({"lookups": [{**SHOPS, "dataset": "shop"}]}, SpecError, "did you mean `shops`"),
        (
            {"lookups": [SHOPS], "dataset": "visits"},
            DataRefused,
            "of 1120 rows have a key.*such as shop south",
        ),
    ],
    ids=["near feature", "target of a lookup", "no such dataset", "key"],
)
def test_a_lookup_that_does_not_fit_is_refused_and_nothing_is_written(with_shops, changes, error, said):
    with_shops.write_model(**{"lookups": [SHOPS], "features": ["size"], **changes})
    with_shops.write_lookup("shops", None, pd.DataFrame({"shop": ["north"], "size": [7]}))
    with pytest.raises(error, match=said):
        prepare(with_shops.top, "buyers")
    assert not (with_shops.model / "prepared").exists()


def test_stages_that_would_not_see_the_lookup_change_are_refused(with_shops):
    with_shops.write_stages()
    with pytest.raises(SpecError, match="- data/shops/partitions"):
        prepare(with_shops.top, "buyers")
