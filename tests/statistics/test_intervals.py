import numpy as np
import pytest
from scipy.stats import binomtest

from coalmine.statistics.intervals import confidence_sequence, upper_limit


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.5])
def test_the_sequence_ever_misses_the_rate_with_at_most_its_alpha(rate):
    # Exactly: the share of paths on which some look excluded the rate, by the count of events.
    missed, alive = 0.0, np.array([1.0])
    for requests in range(1, 250):
        alive = np.append(alive * (1 - rate), 0) + np.append(0, alive * rate)
        lower, upper = confidence_sequence(np.arange(requests + 1), requests, alpha=0.05)
        outside = (rate < lower) | (rate > upper)
        missed += alive[outside].sum()
        alive[outside] = 0
    assert missed <= 0.05


def test_the_sequence_says_something():
    lower, upper = confidence_sequence(50, 1_000)
    assert 0.02 < lower < 0.05 < upper < 0.09


def test_more_requests_narrow_the_sequence():
    requests = np.array([0, 10, 100, 1_000, 100_000])
    lower, upper = confidence_sequence(requests // 10, requests)
    assert np.all(np.diff(upper - lower) < 0)


def test_nothing_is_known_before_the_first_request():
    assert confidence_sequence(0, 0) == (0, 1)


@pytest.mark.parametrize(("events", "lower", "upper"), [(0, 0, None), (500, None, 1)])
def test_a_rate_that_was_never_contradicted_stays_possible(events, lower, upper):
    low, high = confidence_sequence(events, 500)
    assert low == lower if lower is not None else low > 0.9
    assert high == upper if upper is not None else high < 0.1


@pytest.mark.parametrize(("events", "requests"), [(0, 20), (1, 20), (7, 300), (20, 20)])
def test_the_upper_limit_is_that_of_clopper_and_pearson(events, requests):
    exact = binomtest(events, requests, alternative="less").proportion_ci(0.99, "exact").high
    assert upper_limit(events, requests) == pytest.approx(exact)


def test_upper_limits_take_many_counts_at_once():
    assert upper_limit([0, 5], [0, 10]).tolist() == [1.0, pytest.approx(float(upper_limit(5, 10)))]
    assert upper_limit((0, 5), 10).shape == (2,)
