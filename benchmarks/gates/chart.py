"""The frontier as one SVG: false roll-backs against exposure, both logarithmic. Lower left is better.

Readable on light and on dark pages: the background is the page's own, the ink follows its colour scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, _PANEL, _HEIGHT, _TOP, _LEFT = 1080.0, 500.0, 440.0, 56.0, 64.0
FEWEST_FALSE = 0.0005  # what is seldomer is drawn there

_STYLE = (
    ".ink{fill:#20262b}.dim{fill:#6b747c;font-size:11px}.grid{stroke:#8a939b;stroke-opacity:.25}"
    ".limit{stroke:#c2410c;stroke-dasharray:4 4}.ours{fill:#d1480b}.best{fill:#0f8a6d}"
    ".peer{fill:#2563c9}.whisker{stroke-width:2;stroke-opacity:.35}"
    "line.ours{stroke:#d1480b}line.best{stroke:#0f8a6d}line.peer{stroke:#2563c9}"
    "@media (prefers-color-scheme:dark){.ink{fill:#e6e9ec}.dim{fill:#9aa3ab}.ours{fill:#fb8f5a}"
    ".best{fill:#3fc7a3}.peer{fill:#7aa7f7}.limit{stroke:#fb8f5a}}"
)


@dataclass(frozen=True)
class Dot:
    """
    kind: ours, best (of its family under the constraint), peer.
    false: share of good candidates rolled back; interval: what so few runs leave open.
    exposure: in requests.
    """

    name: str
    kind: str
    false: float
    interval: tuple[float, float]
    exposure: float


def draw(panels: Sequence[tuple[str, Sequence[Dot]]]) -> str:
    """One panel for each load."""
    parts = [
        _text(24, 26, "False roll-backs against what users lose by a bad release", "ink", size=17),
        _text(
            24,
            44,
            "geometric mean over candidates that fail 2, 4, 10 and 40 times as often; coalmine: its defaults",
            "dim",
        ),
    ]
    for number, (title, dots) in enumerate(panels):
        parts += _panel(title, dots, _LEFT + number * (_PANEL + 20))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {_TOP + _HEIGHT + 20:g}" '
        f'font-family="system-ui, sans-serif" font-size="12"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _panel(title: str, dots: Sequence[Dot], left: float) -> list[str]:
    right, top, floor = left + _PANEL - 90, _TOP + 50, _TOP + _HEIGHT - 40
    lowest = 10 ** math.floor(math.log10(min(dot.exposure for dot in dots)))
    highest = 10 ** math.ceil(math.log10(max(dot.exposure for dot in dots)))

    def x(false: float) -> float:
        share = math.log(max(false, FEWEST_FALSE) / FEWEST_FALSE) / math.log(1 / FEWEST_FALSE)
        return left + share * (right - left)

    def y(exposure: float) -> float:
        return floor - math.log(exposure / lowest) / math.log(highest / lowest) * (floor - top)

    parts = [_text(left, _TOP + 18, title, "ink", size=14)]
    for false in (FEWEST_FALSE, 0.001, 0.01, 0.1, 1.0):
        parts.append(_line(x(false), top, x(false), floor, "limit" if false == 0.01 else "grid"))
        words = f"{'≤ ' if false == FEWEST_FALSE else ''}{100 * false:g} %"
        if false != 0.001:  # too near to the first for words
            parts.append(_text(x(false), floor + 16, words, "dim", anchor="middle"))
    for power in range(round(math.log10(lowest)), round(math.log10(highest)) + 1):
        parts.append(_line(left, y(10.0**power), right, y(10.0**power), "grid"))
        parts.append(_text(left - 8, y(10.0**power) + 4, f"{10.0**power:g}", "dim", anchor="end"))
    parts.append(_text(right, floor + 34, "good candidates rolled back", "dim", anchor="end"))
    parts.append(_text(left, top - 6, "failed requests by the candidate, in an hour", "dim"))
    labels = _apart([y(dot.exposure) for dot in dots], 14)
    for dot, label in zip(dots, labels, strict=True):
        at, height = x(dot.false), y(dot.exposure)
        low, high = (x(end) for end in dot.interval)
        parts.append(_line(low, height, high, height, f"{dot.kind} whisker"))
        parts.append(f'<circle class="{dot.kind}" cx="{at:.1f}" cy="{height:.1f}" r="5"/>')
        anchor, beside = ("end", at - 9) if at > left + 0.6 * (right - left) else ("start", at + 9)
        parts.append(_text(beside, label - 5, dot.name, dot.kind, anchor=anchor, size=11))
    return parts


def _apart(places: Sequence[float], least: float) -> list[float]:
    """The places, moved down where two would touch."""
    moved = list(places)
    lowest = -math.inf
    for index in sorted(range(len(places)), key=lambda each: places[each]):
        moved[index] = lowest = max(places[index], lowest + least)
    return moved


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str, *, anchor: str = "start", size: float = 0) -> str:
    style = f' style="font-size:{size:g}px"' if size else ""
    place = f'class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}{style}>{escape(words)}</text>"
