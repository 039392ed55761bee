"""Shares against known ones: how often a period is wrong, and after how many periods it is right."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from coalmine.statistics import saved
from coalmine.statistics.against_shares import AgainstShares, sampling_distance, total_variation

SHARES = np.array([0.0, *[0.1] * 10, 0.0])
LIMIT = 0.1
ALPHA = 0.05
RUNS, PERIODS, ROWS = 100, 100, 1000

Shares = Callable[[int, np.random.Generator], np.ndarray]


def moved(by: float, places: np.ndarray | None = None) -> np.ndarray:
    """`by` in total variation, from five bins to five others."""
    order = np.arange(1, 11) if places is None else places
    shares = SHARES.copy()
    shares[order[:5]] -= by / 5
    shares[order[5:]] += by / 5
    return shares


def alarm(
    shares: Shares, chance: np.random.Generator, rows: int = ROWS, periods: int = PERIODS
) -> int | None:
    """The period that has shown it, counted from 1; each comes in four looks."""
    test = AgainstShares.start(SHARES.tolist(), LIMIT)
    for period in range(periods):
        for _ in range(4):
            test = test.with_rows(chance.multinomial(rows // 4, shares(period, chance)).tolist())
        test = test.at_period_end()
        if test.highest_log_e >= math.log(1 / ALPHA):
            return period + 1
    return None


@pytest.mark.parametrize(
    "shares",
    [
        pytest.param(lambda _period, _chance: moved(LIMIT), id="the same bins for ever"),
        pytest.param(
            lambda _period, chance: moved(LIMIT, 1 + chance.permutation(10)), id="others at each look"
        ),
    ],
)
def test_shares_at_the_limit_raise_a_false_alarm_within_alpha_over_all_periods(shares: Shares) -> None:
    chance = np.random.default_rng(20_262)
    false = sum(alarm(shares, chance) is not None for _ in range(RUNS))
    # 12 or more of 100 are less likely than 1 in 100 where each comes with 5 %.
    assert false < 12


def test_what_goes_up_and_down_within_a_period_is_no_shift() -> None:
    """Night and day ask about other bins, and a whole period of both as training did."""
    chance = np.random.default_rng(8)
    night, day = moved(0.5), 2 * SHARES - moved(0.5)
    test = AgainstShares.start(SHARES.tolist(), LIMIT)
    for _ in range(PERIODS):
        for shares in (night, night, day, day):
            test = test.with_rows(chance.multinomial(ROWS // 4, shares).tolist())
        test = test.at_period_end()
    assert test.highest_log_e < math.log(1 / ALPHA)


@pytest.mark.parametrize(
    ("begins", "by", "rows", "within"),
    [
        pytest.param(0, 0.3, 1000, 2, id="at once: the first period says where, the second shows it"),
        pytest.param(0, 0.2, 1000, 3, id="twice the limit"),
        pytest.param(50, 0.2, 1000, 4, id="late, after a long life without it"),
        pytest.param(50, 0.15, 20_000, 2, id="late and slight, of many"),
        pytest.param(50, 0.3, 100, 7, id="late, of few"),
    ],
)
def test_a_shift_is_found_soon_whenever_it_begins(begins: int, by: float, rows: int, within: int) -> None:
    chance = np.random.default_rng(9)

    def shares(period: int, _: np.random.Generator) -> np.ndarray:
        return SHARES if period < begins else moved(by)

    found = [alarm(shares, chance, rows, begins + 30) for _ in range(20)]
    delays = [30 if each is None else each - begins for each in found]
    assert np.median(delays) <= within


def test_rows_where_there_were_none_are_a_shift() -> None:
    chance = np.random.default_rng(10)
    above = np.append(SHARES[:-1] * 0.7, 0.3)
    assert alarm(lambda _period, _chance: above, chance) == 2


def test_a_period_without_rows_changes_nothing_and_what_was_shown_stays_shown() -> None:
    chance = np.random.default_rng(11)
    test = AgainstShares.start(SHARES.tolist(), LIMIT)
    assert test.at_period_end() == test
    for by in (0.5, 0.5, *[0.0] * 20):
        test = test.with_rows(chance.multinomial(ROWS, moved(by)).tolist()).at_period_end()
    assert test.process.log_e < math.log(1 / ALPHA) < test.highest_log_e
    assert total_variation(test.newest, SHARES) < LIMIT


def test_where_everything_may_lie_within_the_limit_nothing_is_shown() -> None:
    test = AgainstShares.start([0.95, 0.05], LIMIT)
    for _ in range(5):
        test = test.with_rows([1000, 0]).at_period_end()
    assert test.highest_log_e == 0


def test_it_is_kept_as_json_exactly() -> None:
    chance = np.random.default_rng(12)
    test = AgainstShares.start(SHARES.tolist(), LIMIT)
    for _ in range(5):
        test = test.with_rows(chance.multinomial(ROWS, moved(0.12)).tolist())
        assert saved.from_json(AgainstShares, json.loads(json.dumps(saved.to_json(test)))) == test
        test = test.at_period_end().with_rows([1] * len(SHARES))


def test_the_total_variation_is_the_share_that_would_have_to_move() -> None:
    assert total_variation([25, 75], [0.5, 0.5]) == pytest.approx(0.25)
    assert total_variation([0, 10], [1.0, 0.0]) == 1.0


def test_samples_lie_no_further_off_than_they_are_said_to() -> None:
    """By number, and between quantiles of their own, as the bins of a reference are."""
    chance = np.random.default_rng(13)
    rows, bins, alpha = 500, 10, 0.05
    said = sampling_distance(rows, bins, alpha)
    drawn = [total_variation(chance.multinomial(rows, [0.1] * bins), [0.1] * bins) for _ in range(400)]
    edges = np.sort(chance.random((400, rows)), axis=1)[:, rows // bins - 1 : -1 : rows // bins]
    between = np.diff(edges, axis=1, prepend=0.0, append=1.0)
    assert between.shape == (400, bins)
    off = np.abs(between - 0.1).sum(axis=1) / 2
    assert np.mean(np.array(drawn) > said) <= alpha
    assert np.mean(off > said) <= alpha
    assert sampling_distance(0, bins, alpha) == 1
