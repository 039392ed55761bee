from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from coalmine.datasets.join import join_lookups
from coalmine.datasets.lookups import require_lookups
from coalmine.datasets.partitions import partition_bytes
from coalmine.datasets.schema import check_partition
from coalmine.spec import DatasetSpec, load_dataset_spec, load_model_spec
from pipelines.sources import nycflights, nycflights_weather

TOP = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def spec() -> DatasetSpec:
    return load_dataset_spec(TOP, "weather")


@pytest.mark.parametrize("partition", nycflights_weather.partitions())
def test_every_month_keeps_the_rules_of_its_dataset(partition: str, spec: DatasetSpec) -> None:
    rows = check_partition(nycflights_weather.load(partition), spec, partition, today=None)
    assert len(rows) > 1_900


def test_there_is_weather_for_the_months_of_the_flights() -> None:
    assert nycflights_weather.partitions() == nycflights.partitions()


def test_a_key_names_one_hour_of_the_year() -> None:
    year = pd.concat(map(nycflights_weather.load, nycflights_weather.partitions()))
    assert len(year) == 26_115
    assert not year.duplicated(["origin", "time_hour"]).any()


def test_the_hour_that_comes_twice_when_the_clocks_go_back_has_two_keys() -> None:
    november = nycflights_weather.load("2013-11")
    twice = november[(november["hour_start"] == "2013-11-03T01:00") & (november["origin"] == "JFK")]
    assert twice["time_hour"].tolist() == ["2013-11-03T05:00:00Z", "2013-11-03T06:00:00Z"]


def test_a_broken_reading_of_the_wind_is_missing() -> None:
    february = nycflights_weather.load("2013-02")
    broken = february[(february["hour_start"] == "2013-02-12T03:00") & (february["origin"] == "EWR")]
    assert broken["wind_speed"].isna().tolist() == [True]


def test_a_flight_finds_the_weather_of_its_own_airport_and_hour(tmp_path: Path, spec: DatasetSpec) -> None:
    folder = tmp_path / "data/weather/partitions"
    folder.mkdir(parents=True)
    january = check_partition(nycflights_weather.load("2013-01"), spec, "2013-01", today=None)
    (folder / "2013-01.parquet").write_bytes(partition_bytes(january))
    model = load_model_spec(TOP, "flight-delays")

    flights = nycflights.load("2013-01")
    rows = join_lookups(tmp_path, flights, model, require_lookups(TOP, model))

    assert rows[list(flights.columns)].equals(flights)
    first = rows[(rows["carrier"] == "UA") & (rows["flight"] == 1545)].iloc[0]
    # weather.csv, EWR, 2013-01-01T10:00:00Z, which is 5 o'clock in New York
    assert (first["temp"], first["pressure"], first["wind_dir"]) == (39.02, 1011.9, 260.0)
    # 52 flights left in hours that no station reported
    assert rows[list(model.lookups[0].columns)].isna().all(axis=1).sum() == 52
