import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.statistics.dispersion import dispersion

POLLS = 900  # half an hour of looks every two seconds


def factors(draw, runs: int = 200) -> np.ndarray:
    return np.array([dispersion(*draw(np.random.default_rng(seed))).factor for seed in range(runs)])


@pytest.mark.parametrize("rate", [0.001, 0.005, 0.05, 0.3])
def test_independent_failures_are_taken_for_independent(rate):
    def draw(rng):
        requests = rng.poisson(100, POLLS)
        return requests, rng.binomial(requests, rate)

    assert np.mean(factors(draw) > 1) <= 0.05


def test_a_load_that_rises_and_a_rate_that_follows_the_day_are_no_bursts():
    day = np.sin(np.arange(POLLS) / POLLS * 2 * np.pi)

    def draw(rng):
        requests = rng.poisson(100 * (1.2 + day))
        return requests, rng.binomial(requests, 0.01 * (1.5 + day))

    assert np.mean(factors(draw) > 1) <= 0.05


@pytest.mark.parametrize("polls", [1, 4, 16])
def test_bursts_shorter_and_longer_than_a_poll_are_found(polls):
    def draw(rng):
        requests = rng.poisson(100, POLLS)
        rate = np.full(POLLS, 0.005)
        for start in rng.integers(0, POLLS, POLLS // 40):
            rate[start : start + polls] = 0.05
        return requests, rng.binomial(requests, rate)

    assert np.mean(factors(draw) > 1.3) >= 0.95


def test_a_known_over_dispersion_lies_below_the_factor_and_near_the_estimate():
    # Every failure counted four times over: a variance four times that of single ones.
    rng, found = np.random.default_rng(20_245), []
    for _ in range(200):
        failures = rng.poisson(1.0, POLLS)
        found.append(dispersion(np.full(POLLS, 1_000), 4 * failures))
    assert np.median([each.estimate for each in found]) == pytest.approx(4, rel=0.25)
    assert np.mean([each.factor >= 4 for each in found]) >= 0.9


def test_it_says_what_it_rests_on():
    found = dispersion([100] * 60, [1] * 60)
    assert (found.polls, found.events) == (60, 60)


@pytest.mark.parametrize(
    ("requests", "events"),
    [
        pytest.param([], [], id="no-history"),
        pytest.param([100] * 30, [3, 9] * 15, id="too-short"),
        pytest.param([100] * 300, [0] * 300, id="no-failure"),
        pytest.param([100] * 300, [100] * 300, id="all-failed"),
        pytest.param([0] * 300, [0] * 300, id="no-requests"),
    ],
)
def test_a_history_that_shows_nothing_leaves_the_counts_as_they_are(requests, events):
    assert dispersion(requests, events).factor == 1


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), max_size=120))
def test_any_history_gives_a_finite_factor_of_1_or_more(polls):
    requests = [n for n, _ in polls]
    found = dispersion(requests, [n * share for n, share in polls])
    assert 1 <= found.estimate < np.inf
    assert 1 <= found.factor < np.inf
