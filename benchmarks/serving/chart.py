"""The comparison as one SVG: a dot for each server and measure, and latencies by percentile.

Axes are logarithmic, since servers differ by a hundred times; so values are dots, not bars. A line
through a dot goes from the lowest to the highest round.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from benchmarks.serving.contenders import BARE, GRANIAN, LAYER, OURS, SILENT
from benchmarks.serving.peers import BENTOML, KSERVE, MLSERVER
from benchmarks.serving.rounds import Round

COLOURS = {
    BARE: "#5c6670",
    GRANIAN: "#9aa3ab",
    LAYER: "#b58900",
    OURS: "#d1480b",
    SILENT: "#eb9a72",
    KSERVE: "#2563c9",
    MLSERVER: "#0f8a6d",
    BENTOML: "#8a3fb0",
}
_WIDTH, _MARGIN, _NAMES, _ROW, _HEAD, _CURVES = 1080.0, 24.0, 178.0, 24.0, 78.0, 330.0
_PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)


@dataclass(frozen=True)
class Column:
    """One measure; `read` gives None where a round has none."""

    title: str
    read: Callable[[Round], float | None]


COLUMNS = (
    Column("requests per second", lambda each: each.saturation.measured.per_second),
    Column("CPU per request, µs", lambda each: each.saturation.cpu_us),
    Column(
        "p99 at the common rate, ms",
        lambda each: None if each.common is None else each.common.measured.latency_ms["p99"],
    ),
    Column("memory after load, MiB", lambda each: each.loaded_mib),
)


def draw(titles: Mapping[str, str], rounds: Sequence[Round]) -> str:
    """titles: of the cases, by name."""
    parts: list[str] = []
    y = _MARGIN
    for case, title in titles.items():
        own = [each for each in rounds if each.case == case]
        servers = list(dict.fromkeys(each.server for each in own))
        parts.append(_text(_MARGIN, y + 18, title, "title"))
        parts += _dots(own, servers, y + 30)
        y += 30 + _HEAD + _ROW * len(servers)
        parts += _curves(own, [each for each in servers if each not in (SILENT, GRANIAN)], y)
        y += _CURVES + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {y:g}" '
        f'font-family="system-ui, sans-serif" font-size="13"><style>'
        ".title{font-size:17px;font-weight:600}.head{fill:#3a4249}.tick{fill:#6b747c;font-size:11px}"
        ".grid{stroke:#e3e6e9}.name{fill:#20262b}</style>"
        f'<rect width="{_WIDTH:g}" height="{y:g}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


# --- dots ------------------------------------------------------------------------------


def _dots(rounds: Sequence[Round], servers: Sequence[str], top: float) -> list[str]:
    columns = [column for column in COLUMNS if any(column.read(each) is not None for each in rounds)]
    width = (_WIDTH - 2 * _MARGIN - _NAMES) / len(columns)
    floor = top + 34 + _ROW * len(servers)
    parts = [
        _text(_MARGIN, _row(top, place) + 4, server, "name", COLOURS[server])
        for place, server in enumerate(servers)
    ]
    for number, column in enumerate(columns):
        left = _MARGIN + _NAMES + number * width
        values = {
            server: [
                value for each in rounds if each.server == server and (value := column.read(each)) is not None
            ]
            for server in servers
        }
        scale = _Scale.over([value for each in values.values() for value in each], left, left + width - 66)
        parts.append(_text(left, top + 16, column.title, "head"))
        for tick in scale.ticks(2):
            parts.append(_line(scale(tick), top + 26, scale(tick), floor, "grid"))
            parts.append(_text(scale(tick), floor + 15, _number(tick), "tick", anchor="middle"))
        for place, (server, own) in enumerate(values.items()):
            if own:
                parts += _dot(own, scale, _row(top, place), COLOURS[server])
    return parts


def _row(top: float, place: int) -> float:
    return top + 42 + _ROW * place


def _dot(values: Sequence[float], scale: _Scale, y: float, colour: str) -> list[str]:
    middle = statistics.median(values)
    low, high = scale(min(values)), scale(max(values))
    return [
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
        'stroke-width="2" opacity="0.6"/>',
        f'<circle cx="{scale(middle):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>',
        _text(max(high, scale(middle)) + 10, y + 4, _number(middle), "name"),
    ]


# --- curves ----------------------------------------------------------------------------


def _curves(rounds: Sequence[Round], servers: Sequence[str], top: float) -> list[str]:
    left, right, floor = _MARGIN + 48, _WIDTH - _MARGIN - 190, top + _CURVES - 42
    points = {
        server: np.percentile(
            np.concatenate([np.frombuffer(each.half.latencies_s) for each in rounds if each.server == server])
            * 1000,
            _PERCENTILES,
            method="higher",
        ).tolist()
        for server in servers
    }
    y = _Scale.over([value for each in points.values() for value in each], floor, top + 30)
    nines = [-math.log10(1 - share / 100) for share in _PERCENTILES]
    x = [left + (each - nines[0]) / (nines[-1] - nines[0]) * (right - left) for each in nines]
    parts = [
        _text(
            _MARGIN,
            top + 12,
            "latency by percentile, ms, each at half of its own saturation, open loop",
            "head",
        )
    ]
    for tick in y.ticks(3):
        parts.append(_line(left, y(tick), right, y(tick), "grid"))
        parts.append(_text(left - 8, y(tick) + 4, _number(tick), "tick", anchor="end"))
    for at, share in zip(x, _PERCENTILES, strict=True):
        parts.append(_text(at, floor + 18, f"p{share:g}", "tick", anchor="middle"))
    labels = _apart({server: y(values[-1]) for server, values in points.items()}, 16)
    for server, values in points.items():
        path = " ".join(f"{at:.1f},{y(value):.1f}" for at, value in zip(x, values, strict=True))
        rate = statistics.median(
            each.half.rate for each in rounds if each.server == server and each.half.rate is not None
        )
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{COLOURS[server]}" stroke-width="2.5" '
            'stroke-linejoin="round"/>'
        )
        words = f"{server}, {rate:,.0f}/s"
        parts.append(_text(right + 10, labels[server] + 4, words, "name", COLOURS[server]))
    return parts


def _apart(places: Mapping[str, float], least: float) -> dict[str, float]:
    """The places, from top to bottom, moved down where two would touch."""
    moved: dict[str, float] = {}
    lowest = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        moved[name] = lowest = max(place, lowest + least)
    return moved


# --- axes and words --------------------------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """Logarithmic, from [low, high] to [start, end] of the drawing."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        """A little beyond the values on both sides, and at least a factor of four."""
        low, high = min(values) / 1.25, max(values) * 1.25
        middle, half = math.sqrt(low * high), max(math.sqrt(high / low), 2.0)
        return cls(middle / half, middle * half, start, end)

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, least: int) -> list[float]:
        """Powers of ten, with their fives, or twos and fives, where they alone are fewer than `least`."""
        for digits in ((1,), (1, 5), (1, 2, 5)):
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [
                digit * 10.0**power
                for power in powers
                for digit in digits
                if self.low <= digit * 10.0**power <= self.high
            ]
            if len(found) >= least:
                break
        return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str, colour: str = "", anchor: str = "start") -> str:
    style = f' style="fill:{colour}"' if colour else ""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'
    )
