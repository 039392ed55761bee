"""Counts in Prometheus's text format, from Envoy and from the model servers.

A poll reads the same few hundred series again and again: what a series is called is taken apart
once, and a reading costs little more than its numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from coalmine.errors import TelemetryUnavailable

_SERIES = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Series:
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    series: Series
    value: float

    @property
    def count(self) -> int:
        """
        Raises:
            TelemetryUnavailable: it is no count.
        """
        if self.value < 0 or not float(self.value).is_integer():  # NaN and infinity are no integers
            raise TelemetryUnavailable(
                f"{self.series.name} {dict(self.series.labels)} is {self.value:g}: that is no count"
            )
        return int(self.value)


def parse(exposition: str, names: Collection[str]) -> Iterator[Sample]:
    """The samples of the series called one of `names`.

    Raises:
        TelemetryUnavailable: text that is no exposition, what is no number, or one series twice.
    """
    seen: set[str] = set()
    for line in exposition.splitlines():
        if not line or line.startswith("#"):
            continue
        text, _, value = line.rpartition(" ")
        series = _series(text)
        if series is None:
            raise TelemetryUnavailable(f"the statistics hold a line that is none: `{line[:120]}`")
        if series.name not in names:
            continue
        if text in seen:
            raise TelemetryUnavailable(f"the statistics hold one series twice: `{line[:120]}`")
        seen.add(text)
        yield Sample(series, _number(value, line))


@lru_cache(maxsize=65_536)
def _series(text: str) -> Series | None:
    match = _SERIES.match(text)
    if match is None:
        return None
    labels = _LABEL.findall(match["labels"] or "")
    return Series(match["name"], {name: _ESCAPED.sub(_unescaped, value) for name, value in labels})


def _unescaped(escaped: re.Match[str]) -> str:
    return "\n" if escaped[1] == "n" else escaped[1]


def _number(text: str, line: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise TelemetryUnavailable(f"the statistics hold what is no number: `{line[:120]}`") from None


def finite(sample: Sample) -> float:
    """
    Raises:
        TelemetryUnavailable: NaN or infinite.
    """
    if not math.isfinite(sample.value):
        raise TelemetryUnavailable(f"{sample.series.name} is {sample.value:g}: that is no measurement")
    return sample.value
