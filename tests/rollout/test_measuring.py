"""Whether requests come by the weight that was set, as far as those still under way let one tell."""

from __future__ import annotations

import numpy as np
import pytest

from coalmine.rollout.measuring import is_skewed
from coalmine.rollout.state import Routed

TIMEOUT_S = 2.0


@pytest.mark.parametrize(
    ("candidate", "stable", "seconds", "weight", "skewed"),
    [
        pytest.param(500, 9500, 50, 0.05, False, id="by the weight"),
        pytest.param(250, 9750, 50, 0.05, True, id="half of the candidate's are missing"),
        pytest.param(1000, 9000, 50, 0.05, True, id="twice as many as were sent"),
        pytest.param(9500, 500, 50, 0.05, True, id="the arms are exchanged"),
        pytest.param(0, 380, 2, 0.05, False, id="a candidate that hangs, within its timeout"),
        pytest.param(0, 3800, 20, 0.05, True, id="a candidate whose requests nobody counts"),
        pytest.param(230, 4750, 25, 0.05, False, id="a candidate that answers just before the timeout"),
        pytest.param(0, 0, 60, 0.5, False, id="no requests"),
        pytest.param(10, 10, 0, 0.5, False, id="no time"),
    ],
)
def test_requests_that_cannot_have_come_by_the_weight_are_known(
    candidate: int, stable: int, seconds: float, weight: float, skewed: bool
) -> None:
    assert is_skewed(Routed(candidate, stable, seconds), weight, TIMEOUT_S) is skewed


def test_random_routing_is_hardly_ever_taken_for_skewed_however_often_it_is_looked_at() -> None:
    chance = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        arrivals = chance.poisson(100, 300)
        candidate = chance.binomial(arrivals, 0.05).cumsum()
        stable = arrivals.cumsum() - candidate
        looks = (
            is_skewed(Routed(int(c), int(s), 2.0 * i), 0.05, 0.01)
            for i, (c, s) in enumerate(zip(candidate, stable, strict=True), start=1)
        )
        alarms += any(looks)
    assert alarms == 0
