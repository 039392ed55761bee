"""Line charts for the report page: inline SVG that needs no script and no network.

The drawing stretches to the width of the page while words stay HTML at their own size, so
that one chart reads on a telephone, on a desktop and on paper. Colours are CSS classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 1000.0, 300.0  # the drawing's own units, stretched by CSS
NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 604800)
MOST_POINTS = 600  # a longer line is thinned: no screen shows more


@dataclass(frozen=True)
class Line:
    """points: ascending in x. kind: a CSS class. area: filled down to the chart's floor."""

    kind: str
    label: str
    points: Sequence[Point]
    area: bool = False
    in_legend: bool = True


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Band:
    """A stretch of time with a name, such as one rollout stage."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Chart:
    """x in seconds since the rollout began; y between `floor` and `ceiling`, clipped there."""

    title: str
    lines: Sequence[Line]
    end_s: float
    floor: float
    ceiling: float
    ticks: Sequence[Tick]
    bands: Sequence[Band] = field(default=())


def draw(chart: Chart) -> str:
    x = _scale(0.0, max(chart.end_s, 1.0), 0.0, WIDTH)
    y = _scale(chart.floor, chart.ceiling, HEIGHT, 0.0)
    shapes = [
        *(_band(band, index, x) for index, band in enumerate(chart.bands)),
        *(
            f'<line class="grid" x1="0" x2="{WIDTH:g}" y1="{y(t.at):.1f}" y2="{y(t.at):.1f}"/>'
            for t in chart.ticks
        ),
        *(_line(line, x, y) for line in chart.lines),
    ]
    return (
        f'<figure class="chart"><figcaption>{escape(chart.title)}{_legend(chart.lines)}</figcaption>'
        f'<div class="plot"><svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(chart.title)}">{"".join(shapes)}</svg>'
        f"{_labels(chart, x, y)}</div></figure>"
    )


def steps(points: Sequence[Point], end: float) -> list[Point]:
    """The corners of a line that keeps each value until the next."""
    corners: list[Point] = []
    for at, value in points:
        if corners:
            corners.append((at, corners[-1][1]))
        corners.append((at, value))
    if corners:
        corners.append((end, corners[-1][1]))
    return corners


def count_ticks(most: float) -> list[Tick]:
    """Two or three round numbers up to `most`."""
    if most <= 0:
        return [Tick(0, "0")]
    unit = 10.0 ** math.floor(math.log10(most))
    step = next(unit * part for part in (0.2, 0.5, 1, 2, 5) if most / (unit * part) < 4)
    step = max(step, 1.0)
    return [Tick(step * k, f"{step * k:,.0f}") for k in range(int(most / step) + 1)]


def clock(seconds: float) -> str:
    """0:07, 12:30, 3:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _scale(low: float, high: float, to_low: float, to_high: float) -> Callable[[float], float]:
    span = high - low

    def scaled(value: float) -> float:
        share = (min(max(value, low), high) - low) / span
        return to_low + share * (to_high - to_low)

    return scaled


def _line(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    points = _thinned(line.points)
    if not points:
        return ""
    path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
    drawn = f'<polyline class="line {line.kind}" points="{path}"/>'
    if line.area:
        first, last = x(points[0][0]), x(points[-1][0])
        floor = f"{last:.1f},{HEIGHT:g} {first:.1f},{HEIGHT:g}"
        return f'<polygon class="area {line.kind}" points="{path} {floor}"/>' + drawn
    return drawn


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    every = math.ceil(len(points) / MOST_POINTS)
    # The last point is where the line stands now: it is never thinned away.
    return points if every <= 1 else [*points[:-1:every], points[-1]]


def _band(band: Band, index: int, x: Callable[[float], float]) -> str:
    start, width = x(band.start), x(band.end) - x(band.start)
    return (
        f'<rect class="band band{index % 2}" x="{start:.1f}" width="{width:.1f}" y="0" height="{HEIGHT:g}"/>'
    )


def _legend(lines: Sequence[Line]) -> str:
    named = [line for line in lines if line.in_legend]
    items = (f'<span class="key"><i class="{line.kind}"></i>{escape(line.label)}</span>' for line in named)
    return f'<span class="legend">{"".join(items)}</span>'


def _labels(chart: Chart, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    rows = (
        f'<span class="y" style="top:{y(tick.at) / HEIGHT:.2%}">{escape(tick.label)}</span>'
        for tick in chart.ticks
    )
    columns = (
        f'<span class="x" style="left:{x(at) / WIDTH:.2%}">{clock(at)}</span>' for at in _times(chart.end_s)
    )
    # A name wider than its band would lie on its neighbour's.
    names = (
        f'<span class="stage" style="left:{x(band.start) / WIDTH:.2%};'
        f'max-width:{(x(band.end) - x(band.start)) / WIDTH:.2%}">{escape(band.label)}</span>'
        for band in chart.bands
    )
    return "".join((*rows, *columns, *names))


def _times(end_s: float) -> list[float]:
    step = next((nice for nice in NICE_SECONDS if end_s / nice <= 5), NICE_SECONDS[-1])
    # The last label needs room to its right.
    return [step * k for k in range(int(end_s / step) + 1) if step * k <= 0.94 * end_s]
