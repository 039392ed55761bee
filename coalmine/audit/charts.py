"""Line charts for the report page: inline SVG that needs no script and no network.

The drawing stretches to the width of the page while words stay HTML at their own size, so
that one chart reads on a telephone, on a desktop and on paper. Colours are CSS classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TypeVar

Point = tuple[float, float]
P = TypeVar("P")

WIDTH, HEIGHT = 1000.0, 300.0  # the drawing's own units, stretched by CSS
NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 604800)
MOST_BAR_LABELS = 6
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
class Ribbon:
    """What lies between two lines, such as an interval over time: (x, low, high), ascending in x."""

    kind: str
    points: Sequence[tuple[float, float, float]]


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
    ribbons: Sequence[Ribbon] = field(default=())


@dataclass(frozen=True)
class Bars:
    """One series of a bar chart: a value for each label, none negative."""

    kind: str
    label: str
    values: Sequence[float]


def draw_bars(title: str, labels: Sequence[str], series: Sequence[Bars]) -> str:
    """Series side by side, label by label; under every bar its label where there is room for it."""
    most = max(max(bars.values) for bars in series)
    ticks = share_ticks(most * 1.05)
    y = _scale(0.0, most * 1.05, HEIGHT, 0.0)
    slot = WIDTH / len(labels)
    width = 0.8 * slot / len(series)
    shapes = [
        f'<line class="grid" x1="0" x2="{WIDTH:g}" y1="{y(tick.at):.1f}" y2="{y(tick.at):.1f}"/>'
        for tick in ticks
    ]
    for number, bars in enumerate(series):
        for index, value in enumerate(bars.values):
            left = index * slot + 0.1 * slot + number * width
            shapes.append(
                f'<rect class="bar {bars.kind}" x="{left:.1f}" width="{width:.1f}" y="{y(value):.1f}" '
                f'height="{HEIGHT - y(value):.1f}"><title>{escape(labels[index])}: {value:.1%}</title></rect>'
            )
    every = math.ceil(len(labels) / MOST_BAR_LABELS)
    names = [
        f'<span class="x" style="left:{(index + 0.5) / len(labels):.2%}">{escape(label)}</span>'
        for index, label in enumerate(labels)
        if index % every == 0
    ]
    rows = [
        f'<span class="y" style="top:{y(tick.at) / HEIGHT:.2%}">{escape(tick.label)}</span>' for tick in ticks
    ]
    return _figure(title, series, shapes, [*rows, *names])


def draw(chart: Chart) -> str:
    x = _scale(0.0, max(chart.end_s, 1.0), 0.0, WIDTH)
    y = _scale(chart.floor, chart.ceiling, HEIGHT, 0.0)
    shapes = [
        *(_band(band, index, x) for index, band in enumerate(chart.bands)),
        *(
            f'<line class="grid" x1="0" x2="{WIDTH:g}" y1="{y(t.at):.1f}" y2="{y(t.at):.1f}"/>'
            for t in chart.ticks
        ),
        *(_ribbon(ribbon, x, y) for ribbon in chart.ribbons),
        *(_line(line, x, y) for line in chart.lines),
    ]
    return _figure(chart.title, chart.lines, shapes, _labels(chart, x, y))


def _figure(
    title: str, legend: Sequence[Line] | Sequence[Bars], shapes: Sequence[str], words: Sequence[str]
) -> str:
    return (
        f'<figure class="chart"><figcaption>{escape(title)}{_legend(legend)}</figcaption>'
        f'<div class="plot"><svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{"".join(shapes)}</svg>'
        f"{''.join(words)}</div></figure>"
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


def value_ticks(low: float, high: float) -> list[Tick]:
    """Two to six round numbers between the two."""
    span = high - low or 1.0
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(unit * part for part in (0.2, 0.5, 1, 2, 5) if span / (unit * part) < 5)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [Tick(step * k, f"{step * k:.10g}") for k in range(first, last + 1)]


def share_ticks(ceiling: float) -> list[Tick]:
    """Two to five round shares up to `ceiling`, in percent."""
    unit = 10.0 ** math.floor(math.log10(ceiling))
    step = next(unit * part for part in (0.2, 0.5, 1, 2, 5) if ceiling / (unit * part) < 5)
    return [Tick(step * k, f"{100 * step * k:.10g} %") for k in range(int(ceiling / step * 1.0001) + 1)]


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


def _ribbon(ribbon: Ribbon, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    points = _thinned(ribbon.points)
    edges = [f"{x(at):.1f},{y(high):.1f}" for at, _, high in points]
    edges += [f"{x(at):.1f},{y(low):.1f}" for at, low, _ in reversed(points)]
    return f'<polygon class="ribbon {ribbon.kind}" points="{" ".join(edges)}"/>' if points else ""


def _thinned(points: Sequence[P]) -> Sequence[P]:
    every = math.ceil(len(points) / MOST_POINTS)
    # The last point is where the line stands now: it is never thinned away.
    return points if every <= 1 else [*points[:-1:every], points[-1]]


def _band(band: Band, index: int, x: Callable[[float], float]) -> str:
    start, width = x(band.start), x(band.end) - x(band.start)
    return (
        f'<rect class="band band{index % 2}" x="{start:.1f}" width="{width:.1f}" y="0" height="{HEIGHT:g}"/>'
    )


def _legend(series: Sequence[Line] | Sequence[Bars]) -> str:
    named = [each for each in series if isinstance(each, Bars) or each.in_legend]
    items = (f'<span class="key"><i class="{each.kind}"></i>{escape(each.label)}</span>' for each in named)
    return f'<span class="legend">{"".join(items)}</span>'


def _labels(chart: Chart, x: Callable[[float], float], y: Callable[[float], float]) -> Sequence[str]:
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
    return (*rows, *columns, *names)


def _times(end_s: float) -> list[float]:
    step = next((nice for nice in NICE_SECONDS if end_s / nice <= 5), NICE_SECONDS[-1])
    # The last label needs room to its right.
    return [step * k for k in range(int(end_s / step) + 1) if step * k <= 0.94 * end_s]
