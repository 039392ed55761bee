"""A release whose users ask other things: what is shown, when, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from coalmine.evaluation.predictions import Predictions
from coalmine.evaluation.reference import Reference, counting, reference_of
from coalmine.retrain_spec import OnDrift
from coalmine.spec import Task
from coalmine.statistics import saved
from coalmine.triggers.drift import Drift
from coalmine.triggers.watched import Watched

DAY_S = 86_400.0
T0 = 1_764_000_000.0
ASKED = OnDrift(alpha=0.01, tolerance=0.1, period_days=7)
LEARNT = np.random.default_rng(1).normal(20, 5, 20_000)
SHOPS = np.array(["north", "south"] * 10_000, dtype=object)
REFERENCE: Reference = reference_of(
    {"temp": LEARNT, "shop": SHOPS},
    Predictions(Task.BINARY, {"probability": np.random.default_rng(2).random(5_000)}, (0, 1)),
)


def asked_about(
    seed: int, warmer: float = 0.0, north: float = 0.5, requests: int = 2_000
) -> Mapping[str, tuple[int, ...]]:
    """What a server counts of so many requests."""
    chance = np.random.default_rng(seed)
    temp, shop, score = map(counting, REFERENCE.distributions)
    return {
        "feature temp": temp(chance.normal(20 + warmer, 5, requests)),
        "feature shop": shop(np.where(chance.random(requests) < north, "north", "south").tolist()),
        "score probability": score(chance.random(requests)),
    }


def weeks(*each: Mapping[str, tuple[int, ...]], asked: OnDrift = ASKED) -> Drift:
    """After a look at the end of each week, and one just after it."""
    drift = Drift.begin(REFERENCE, asked, T0)
    for week, counts in enumerate(each):
        drift = drift.with_rows([counts], T0 + (7 * week + 6.9) * DAY_S)
        drift = drift.with_rows([], T0 + (7 * week + 7.1) * DAY_S)
    return drift


def test_a_feature_that_shifted_is_named_with_how_much_and_where() -> None:
    drift = weeks(*(asked_about(seed, warmer=5.0) for seed in range(2)))
    (shifted,) = drift.shifted
    assert REFERENCE.distributions[shifted].name == "temp"
    said = drift.sentence(T0 + 14 * DAY_S)
    assert said.startswith("shifted against what it was made of: feature `temp` by 0.3")
    assert "; 0.12 is the limit) in 2,000 requests, " in said
    assert "of which are from 26.2558 to 39.6678 and 10% were" in said


def test_those_that_shifted_come_furthest_first() -> None:
    drift = weeks(*(asked_about(seed, warmer=4.0, north=0.95) for seed in range(3)))
    assert [REFERENCE.distributions[place].name for place in drift.shifted] == ["shop", "temp"]


def test_requests_like_the_training_rows_show_nothing_and_the_nearest_is_told() -> None:
    drift = weeks(*(asked_about(seed, warmer=0.5) for seed in range(30)))
    assert drift.shifted == ()
    assert drift.sentence(T0).startswith("no shift is shown; the furthest is feature `temp` by 0.0")


def test_one_period_is_not_enough_and_says_when_the_next_ends() -> None:
    drift = Drift.begin(REFERENCE, ASKED, T0).with_rows([asked_about(1, warmer=20.0)], T0 + DAY_S)
    assert drift.sentence(T0 + DAY_S) == (
        "2,000 requests in the first period of 7 days, which ends in 6 days; "
        "a shift is shown from the second on"
    )
    assert weeks(asked_about(1, warmer=20.0)).shifted == ()
    assert weeks(asked_about(1, warmer=20.0), asked_about(2, warmer=20.0)).shifted


def test_a_look_that_comes_late_closes_the_period_and_keeps_its_beat() -> None:
    drift = Drift.begin(REFERENCE, ASKED, T0).with_rows([asked_about(1)], T0 + 17 * DAY_S)
    assert (drift.periods, drift.began_s) == (1, T0 + 14 * DAY_S)
    empty = drift.with_rows([], T0 + 22 * DAY_S)
    assert (empty.periods, empty.began_s) == (1, T0 + 21 * DAY_S)
    assert empty.tests == drift.tests


def test_counts_of_several_servers_add_up_and_what_is_not_counted_shows_nothing() -> None:
    half = asked_about(1, requests=1_000)
    assert weeks(half, half).tests[0].newest == tuple(map(float, half["feature temp"]))
    others = {"feature temp": (5, 5), "feature wind": (1, 2, 3)}
    both = Drift.begin(REFERENCE, ASKED, T0).with_rows([half, half, {}, others], T0 + DAY_S)
    assert sum(both.tests[0].pending) == 2_000


@pytest.mark.parametrize("rows", [300, 30_000])
def test_a_small_training_set_widens_the_limit_by_what_it_may_be_off(rows: int) -> None:
    chance = np.random.default_rng(5)
    learnt = chance.normal(0, 1, rows)
    scores = Predictions(Task.BINARY, {"probability": chance.random(rows)}, (0, 1))
    drift = Drift.begin(reference_of({"x": learnt}, scores), ASKED, T0)
    assert drift.tests[0].limit == pytest.approx({300: 0.258, 30_000: 0.116}[rows], abs=1e-3)


def test_it_is_kept_as_json_exactly_and_does_not_grow() -> None:
    drift, sizes = Drift.begin(REFERENCE, ASKED, T0), []
    for week in range(1, 20):
        drift = drift.with_rows([asked_about(week, warmer=1.0)], T0 + 7.1 * week * DAY_S)
        watched = Watched("d1gest", {}, drift=drift)
        text = json.dumps(watched.to_json())
        assert Watched.from_json(json.loads(text)) == watched
        sizes.append(len(text))
    assert sizes[-1] < 1.1 * sizes[1]
    assert saved.from_json(Drift, saved.to_json(drift)) == drift
