from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from coalmine.datasets.partitions import partition_bytes
from coalmine.datasets.schema import check_partition
from coalmine.spec import DatasetSpec, load_dataset_spec
from pipelines.sources import nycflights

TOP = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def spec() -> DatasetSpec:
    return load_dataset_spec(TOP, "flights")


def test_a_month_for_each_of_2013() -> None:
    assert nycflights.partitions()[0] == "2013-01"
    assert nycflights.partitions()[-1] == "2013-12"
    assert len(nycflights.partitions()) == 12


@pytest.mark.parametrize("partition", nycflights.partitions())
def test_every_month_keeps_the_rules_of_its_dataset(partition: str, spec: DatasetSpec) -> None:
    rows = check_partition(nycflights.load(partition), spec, partition, today=None)
    assert len(rows) > 20_000
    assert 0.1 < rows["late"].mean() < 0.35


def test_rows_are_the_same_to_the_byte(spec: DatasetSpec) -> None:
    def content() -> bytes:
        nycflights._flights.cache_clear()
        return partition_bytes(check_partition(nycflights.load("2013-02"), spec, "2013-02", today=None))

    assert content() == content()


def test_nothing_that_is_known_only_after_departure_is_a_column() -> None:
    rows = nycflights.load("2013-02")
    assert not {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"} & set(rows.columns)


def test_a_flight_has_the_time_of_the_timetable_and_the_key_of_its_weather() -> None:
    rows = nycflights.load("2013-01")
    first = rows[(rows["carrier"] == "UA") & (rows["flight"] == 1545)].iloc[0]
    assert first["scheduled_departure"] == pd.Timestamp("2013-01-01T05:15:00")
    assert (first["origin"], first["time_hour"]) == ("EWR", "2013-01-01T10:00:00Z")
    assert first["late"] == 0  # 11 minutes behind its time
