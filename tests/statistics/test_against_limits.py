"""Rates against fixed limits: how often a look is wrong, and after how many looks it is right."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from coalmine.statistics import saved
from coalmine.statistics.against_limits import AgainstLimits

LIMITS = (0.2, 0.05)
ALPHA = 0.05
RUNS, LOOKS, REQUESTS = 150, 100, 200


def first_alarm(test: AgainstLimits, counts: np.ndarray) -> int | None:
    """The look that has shown it; `counts` are of (looks, events), of REQUESTS requests each."""
    for look, events in enumerate(counts.tolist(), start=1):
        test = test.with_counts(REQUESTS, events)
        if test.highest_log_e >= math.log(1 / ALPHA):
            return look
    return None


def alarms(rates: np.ndarray, runs: int = RUNS) -> list[int | None]:
    """rates: of (looks, events)."""
    chance = np.random.default_rng(20_261)
    drawn = chance.binomial(REQUESTS, rates, (runs, *rates.shape))
    return [first_alarm(AgainstLimits.start(LIMITS), counts) for counts in drawn]


def test_rates_at_their_limits_raise_a_false_alarm_within_alpha_over_all_looks() -> None:
    false = sum(alarm is not None for alarm in alarms(np.tile(LIMITS, (LOOKS, 1))))
    # 15 or more of 150 are less likely than 1 in 100 where each comes with 5 %.
    assert false < 15


@pytest.mark.parametrize(
    ("begins", "rates", "within"),
    [
        pytest.param(0, (0.3, 0.05), 5, id="at once, half as much again"),
        pytest.param(0, (0.2, 0.1), 10, id="the rare event doubles"),
        pytest.param(50, (0.3, 0.05), 15, id="late, after a long life without it"),
        pytest.param(75, (0.26, 0.05), 9, id="late and slight: sought in the newest requests"),
    ],
)
def test_a_rate_that_rises_is_found_soon_whenever_it_rises(
    begins: int, rates: tuple[float, ...], within: int
) -> None:
    late = np.array([LIMITS if look < begins else rates for look in range(LOOKS)])
    found = alarms(late, runs=20)
    delays = [LOOKS if alarm is None else alarm - begins for alarm in found]
    assert np.median(delays) <= within


def test_a_sum_of_losses_is_as_good_as_a_count() -> None:
    """Losses of 0.2 on average, none of them 0 or 1, are at the limit 0.2 and never an alarm."""
    chance = np.random.default_rng(7)
    losses = chance.uniform(0.1, 0.3, (20, LOOKS, REQUESTS)).sum(axis=2)
    of = [first_alarm(AgainstLimits.start((0.2,)), each[:, None]) for each in losses]
    assert of == [None] * 20


def test_no_requests_show_nothing() -> None:
    test = AgainstLimits.start(LIMITS).with_counts(100, (30, 5))
    assert test.with_counts(0, (0, 0)) == test


def test_what_was_shown_once_stays_shown() -> None:
    bad = AgainstLimits.start(LIMITS).with_counts(1000, (400, 50))
    good = bad.with_counts(100_000, (10_000, 100))
    assert good.process.log_e < bad.process.log_e
    assert good.highest_log_e == bad.highest_log_e == pytest.approx(bad.process.log_e)
    assert bad.most_above == 0


def test_it_is_kept_as_json_exactly_and_does_not_grow_with_the_looks() -> None:
    test, sizes = AgainstLimits.start(LIMITS), []
    for _ in range(50):
        test = test.with_counts(100, (21, 4))
        kept = json.dumps(saved.to_json(test))
        assert saved.from_json(AgainstLimits, json.loads(kept)) == test
        sizes.append(len(kept))
    assert sizes[-1] < 1.2 * sizes[0]
