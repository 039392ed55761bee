from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from coalmine.audit.charts import MOST_POINTS, Band, Chart, Line, Tick, clock, count_ticks, draw, steps


def chart(*lines: Line, bands: tuple[Band, ...] = ()) -> str:
    return draw(Chart("Weight <now>", lines, 100.0, 0.0, 10.0, [Tick(0, "0"), Tick(10, "10")], bands))


def points(drawn: str) -> list[tuple[float, float]]:
    (path,) = re.findall(r'<polyline[^>]* points="([^"]*)"', drawn)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in path.split())]


def test_a_chart_is_well_formed_and_escaped() -> None:
    drawn = chart(Line("a", "x & y", [(0, 1), (50, 5)], area=True), bands=(Band(0, 50, "5 % <"),))
    ElementTree.fromstring(drawn)


def test_values_beyond_the_edge_are_drawn_at_the_edge() -> None:
    drawn = points(chart(Line("a", "a", [(-5, -3), (50, float("inf")), (200, float("-inf"))])))
    assert drawn == [(0, 300), (500, 0), (1000, 300)]


def test_a_long_line_is_thinned_and_keeps_both_ends() -> None:
    line = [(k / 100, float(k % 7)) for k in range(10_000)]
    drawn = points(chart(Line("a", "a", line)))
    assert len(drawn) <= MOST_POINTS + 1
    assert drawn[0] == (0.0, 300.0)
    assert drawn[-1][0] == pytest.approx(999.9)


def test_steps_keep_each_value_until_the_next() -> None:
    assert steps([(0, 5), (10, 25)], 15) == [(0, 5), (10, 5), (10, 25), (15, 25)]
    assert steps([], 15) == []


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, ["0"]),
        (1, ["0", "1"]),
        (5, ["0", "2", "4"]),
        (57, ["0", "20", "40"]),
        (3428, ["0", "1,000", "2,000", "3,000"]),
        (10_000, ["0", "5,000", "10,000"]),
    ],
)
def test_ticks_are_few_round_counts(most: float, labels: list[str]) -> None:
    assert [tick.label for tick in count_ticks(most)] == labels


@pytest.mark.parametrize(("seconds", "shown"), [(7, "0:07"), (750, "12:30"), (11_100, "3:05:00")])
def test_clock_reads_as_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
