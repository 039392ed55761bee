import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.errors import SpecError
from coalmine.statistics.bounded_mean import BoundedMean, Side

ABOVE, BELOW = Side.ABOVE, Side.BELOW
AGREE_OR_NOT = ((0.0, 0.0), (1.0, 1.0))
THIRDS = ((-1.0, -1 / 3), (-1 / 3, 1 / 3), (1 / 3, 1.0))


@st.composite
def values_in_the_null(draw):
    """(side, bound, values, shares): a distribution on [-1, 1] whose mean is in the side's null."""
    side = draw(st.sampled_from([ABOVE, BELOW]))
    values = np.array(draw(st.lists(st.floats(-1, 1), min_size=1, max_size=5)))
    shares = np.array(draw(st.lists(st.floats(0.01, 1), min_size=len(values), max_size=len(values))))
    shares /= shares.sum()
    mean = float(values @ shares)
    room = draw(st.floats(0, 0.5))
    bound = mean + room if side is ABOVE else mean - room
    return side, min(max(bound, -0.98), 0.98), values, shares, mean


@given(values_in_the_null(), st.sampled_from(["exact", "binned"]), st.floats(1, 5))
def test_a_value_expects_at_most_1_anywhere_in_the_null(drawn, how, dispersion):
    side, bound, values, shares, mean = drawn
    if (mean > bound) if side is ABOVE else (mean < bound):
        return
    expected = 0.0
    for value, share in zip(values.tolist(), shares.tolist(), strict=True):
        bins = ((value, value),) if how == "exact" else THIRDS
        counts = [1.0] if how == "exact" else _in_one_of(THIRDS, value)
        after = BoundedMean(side, bound, -1, 1).with_values(bins, counts, dispersion)
        expected += share * math.exp(after.log_e)
    assert expected <= 1 + 1e-9


def _in_one_of(bins, value):
    place = next(i for i, (low, high) in enumerate(bins) if low <= value <= high)
    return [1.0 if i == place else 0.0 for i in range(len(bins))]


@pytest.mark.parametrize("side", [ABOVE, BELOW])
def test_a_mean_on_the_bound_raises_a_false_alarm_in_1_percent_of_runs_at_most(side):
    runs, looks, rng = 400, 1_000, np.random.default_rng(20_244)
    alarms, highest = 0, -math.inf
    for differ in rng.binomial(20, 0.02, (runs, looks)).tolist():
        mean = BoundedMean(side, 0.02, 0, 1)
        stakes = np.array(mean.log_wealth)
        agreed = BoundedMean(side, 0.02, 0, 1).with_values(AGREE_OR_NOT, (1, 0))
        differed = BoundedMean(side, 0.02, 0, 1).with_values(AGREE_OR_NOT, (0, 1))
        # What each value pays is the same at each look: sums in place of a thousand calls.
        total = np.cumsum(differ)
        requests = 20 * np.arange(1, looks + 1)
        wealth = stakes + np.outer(requests - total, np.array(agreed.log_wealth) - stakes)
        wealth += np.outer(total, np.array(differed.log_wealth) - stakes)
        log_e = np.logaddexp.reduce(wealth, axis=1)
        alarms += bool((log_e >= math.log(100)).any())
        highest = max(highest, float(log_e.max()))
    assert alarms < 12  # 12 of 400 or more: less than 1 in 1,000 under 1 %
    assert highest > math.log(5)  # the looks did come near


@pytest.mark.parametrize(
    ("side", "differ"), [pytest.param(BELOW, 5, id="they-agree"), pytest.param(ABOVE, 60, id="they-differ")]
)
def test_evidence_grows_on_the_side_that_is_true(side, differ):
    for asked in Side:
        mean = BoundedMean(asked, 0.02, 0, 1)
        mean = mean.with_values(AGREE_OR_NOT, (1_000 - differ, differ))
        assert (mean.log_e > math.log(100)) == (asked is side)


def test_a_bin_counts_as_the_end_that_says_less():
    wide = BoundedMean(ABOVE, 0.0, -1, 1).with_values([(0.0, 1.0)], [10])
    assert wide.log_e == BoundedMean(ABOVE, 0.0, -1, 1).with_values([(0.0, 0.0)], [10]).log_e
    wide = BoundedMean(BELOW, 0.0, -1, 1).with_values([(-1.0, 0.0)], [10])
    assert wide.log_e == BoundedMean(BELOW, 0.0, -1, 1).with_values([(0.0, 0.0)], [10]).log_e


def test_values_that_hardly_spread_are_decided_sooner_than_coins_of_their_mean():
    betting = BoundedMean(BELOW, 0.1, -1, 1).with_values([(0.0, 0.0)], [100])
    coins = BoundedMean(BELOW, 0.1, -1, 1).with_values([(-1.0, -1.0), (1.0, 1.0)], [50, 50])
    assert betting.log_e > math.log(20) > coins.log_e


@pytest.mark.parametrize("bound", [0.0, 1.0, 2.0, math.nan])
def test_a_bound_that_no_mean_can_pass_is_refused(bound):
    with pytest.raises(SpecError, match="give a bound between the two"):
        BoundedMean(ABOVE, bound, 0, 1)


def test_saving_loses_nothing():
    mean = BoundedMean(BELOW, 0.02, 0, 1).with_values(AGREE_OR_NOT, (99, 1))
    assert BoundedMean.from_json(mean.to_json()) == mean
