import itertools
import math

import numpy as np
import pytest

from coalmine.statistics.sample_ratio import TOLERANCE, log_e

ALARM = math.log(1_000)


@pytest.mark.parametrize("weight", [0.01, 0.05, 0.5, 0.9])
def test_the_intended_weight_expects_at_most_1_after_any_number_of_requests(weight):
    slack = TOLERANCE * min(weight, 1 - weight)
    for requests, share in itertools.product((1, 7, 200, 1_000), (weight - slack, weight, weight + slack)):
        expected = sum(
            math.exp(
                log_e(n, requests - n, weight)
                + math.lgamma(requests + 1)
                - math.lgamma(n + 1)
                - math.lgamma(requests - n + 1)
                + n * math.log(share)
                + (requests - n) * math.log1p(-share)
            )
            for n in range(requests + 1)
        )
        assert expected <= 1 + 1e-9


@pytest.mark.parametrize("weight", [0.05, 0.5])
def test_a_thousand_looks_at_the_intended_weight_seldom_raise_an_alarm(weight):
    runs, looks, rng = 1_000, 1_000, np.random.default_rng(20_243)
    candidate = np.cumsum(rng.binomial(100, weight, (runs, looks)), axis=1)
    totals = 100 * np.arange(1, looks + 1)
    # At 1/alpha = 20 the bound is 5 %: 68 or more of 1,000 are less than 1 in 100 under it.
    alarmed = sum(
        any(log_e(n, total - n, weight) >= math.log(20) for n, total in zip(run, totals, strict=True))
        for run in candidate[:200].tolist()
    )
    assert alarmed <= 19


@pytest.mark.parametrize(("weight", "share"), [(0.05, 0.10), (0.05, 0.0), (0.5, 0.53), (0.5, 0.47)])
def test_a_split_that_is_another_is_found(weight, share):
    requests = 20_000
    assert log_e(round(requests * share), round(requests * (1 - share)), weight) > ALARM


def test_counts_as_intended_and_no_counts_are_no_evidence():
    assert log_e(0, 0, 0.05) == 0
    assert log_e(500, 9_500, 0.05) < 0


def test_a_lag_within_the_tolerance_never_adds_up_to_an_alarm():
    for requests in (10**4, 10**6, 10**8):
        assert log_e(0.0504 * requests, 0.9496 * requests, 0.05) < ALARM
    assert log_e(0.0504 * 10**8, 0.9496 * 10**8, 0.05, tolerance=0.0) > ALARM
