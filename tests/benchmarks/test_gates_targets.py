"""It cannot be won by never promoting, nor by always rolling back, nor by few runs that go well."""

import numpy as np
import pytest

from benchmarks.gates import cases, chart
from benchmarks.gates.cases import QUICK
from benchmarks.gates.chart import Dot
from benchmarks.gates.experiment import Result, ratio_interval
from benchmarks.gates.outcome import Ended, Outcome
from benchmarks.gates.targets import judge

GOOD = {good.name for good in (*cases.GOOD, *cases.GOOD_HALF.values(), cases.BURSTS, cases.DAILY)}


def missed(ours_of_good: Outcome, ours_of_worse: Outcome) -> list[str]:
    """The targets missed by a method of ours that always ends so; peers always lose 1,000 requests."""
    found = {}
    for name, case in (cases.ours(QUICK) | cases.peers(QUICK)).items():
        mine = ours_of_good if case.scenario.name in GOOD else ours_of_worse
        peers = Outcome(Ended.ROLLED_BACK, 60, 10 if case.method is cases.ORACLE else 1_000)
        ended = mine if case.method.name.startswith("coalmine") else peers
        found[name] = Result((ended,) * 20)
    figures = judge(found, {"any": (0, 1_000)}, np.random.default_rng(1))
    return [figure.name for figure in figures if not figure.met]


PROMOTED, BACK = Outcome(Ended.PROMOTED, 60, 0), Outcome(Ended.ROLLED_BACK, 30, 0)


def test_promoting_the_good_and_rolling_back_the_bad_meets_every_target():
    assert missed(PROMOTED, BACK) == []


def test_never_promoting_misses():
    names = missed(Outcome(Ended.UNDECIDED, 3_600, 0), BACK)
    assert names
    assert all(name.startswith("good candidate promoted") for name in names)


def test_always_rolling_back_misses():
    names = missed(BACK, BACK)
    assert sum(name.startswith("false roll-backs") for name in names) == len(cases.GOOD) + 3


def test_always_promoting_misses():
    names = missed(PROMOTED, Outcome(Ended.PROMOTED, 60, 5_000))
    assert any("Flagger / ours" in name for name in names)
    assert any("oracle" in name for name in names)
    assert any("shadow" in name for name in names)
    assert any("doublings missed" in name for name in names)
    assert any(name.startswith("rolled back, ") for name in names)


@pytest.mark.parametrize(("alarms", "is_met"), [(35, True), (36, False)])
def test_36_of_2000_is_where_1_percent_is_no_longer_plausible(alarms, is_met):
    found = {
        name: Result((PROMOTED if case.scenario.name in GOOD else BACK,) * 20)
        for name, case in (cases.ours(QUICK) | cases.peers(QUICK)).items()
    }
    figures = judge(found, {"any": (alarms, 2_000)}, np.random.default_rng(1))
    (figure,) = (each for each in figures if each.name == "alarms on the edge, any")
    assert figure.met is is_met


def test_the_interval_of_a_ratio_holds_it():
    rng = np.random.default_rng(1)
    above, below = rng.exponential(40, 500), rng.exponential(4, 500)
    low, high = ratio_interval(above, below, rng)
    assert low < above.mean() / below.mean() < high
    assert 8 < low < high < 13


def test_the_frontier_shows_each_method_in_both_colour_schemes():
    drawing = chart.draw(
        [
            (
                "50/s",
                [
                    Dot("coalmine", "ours", 0.0, (0.0, 0.01), 8.0),
                    Dot("Flagger <1>", "peer", 0.2, (0.15, 0.3), 90.0),
                ],
            )
        ]
    )
    assert "Flagger &lt;1&gt;" in drawing
    assert drawing.count("<circle") == 2
    assert "prefers-color-scheme:dark" in drawing
