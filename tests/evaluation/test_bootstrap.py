"""Intervals: they cover what they promise, and they say when they cannot."""

import numpy as np
import pytest

from coalmine.errors import DataRefused
from coalmine.evaluation.bootstrap import Bootstrapped, bootstrap, row_weights


def mean_of(values):
    return lambda weights: float(weights @ values / weights.sum())


def test_rows_of_a_group_are_drawn_together():
    group = np.repeat(np.arange(20), 3)
    for weights in row_weights(group, 60, 20, seed=0):
        by_group = weights.reshape(20, 3)
        assert (by_group == by_group[:, :1]).all()
        assert by_group[:, 0].sum() == 20


def test_interval_of_a_mean_is_near_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap({"mean": mean_of(values)}, None, 400, 2000, 0)["mean"].estimate(0.95)
    assert found.value == pytest.approx(values.mean(), rel=1e-5)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_interval_by_group_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        chance = np.random.default_rng(seed)
        values = (chance.normal(size=30)[:, None] + 0.1 * chance.normal(size=(30, 10))).ravel()
        found = bootstrap({"mean": mean_of(values)}, np.repeat(np.arange(30), 10), 300, 200, seed)["mean"]
        interval = found.estimate(0.9)
        covered += interval.low <= 0 <= interval.high
    assert 0.82 <= covered / 200 <= 0.95


def test_one_seed_gives_the_same_draws_whatever_is_measured():
    values = np.arange(50.0)
    alone = bootstrap({"a": mean_of(values)}, None, 50, 100, 3)["a"].draws
    among = bootstrap({"b": mean_of(values**2), "a": mean_of(values)}, None, 50, 100, 3)["a"].draws
    assert np.array_equal(alone, among)


@pytest.mark.parametrize(
    ("value", "undefined", "known"),
    [(1.0, 0, True), (1.0, 4, True), (1.0, 6, False), (float("nan"), 0, False)],
    ids=["all defined", "a few undefined", "too many undefined", "itself undefined"],
)
def test_an_interval_that_is_mostly_guesswork_is_none(value, undefined, known):
    draws = np.concatenate([np.full(undefined, np.nan), np.ones(100 - undefined)])
    assert (Bootstrapped(value, draws).estimate(0.95) is not None) is known


def test_few_groups_are_refused_with_the_remedy():
    with pytest.raises(DataRefused, match=r"split.test_partitions"):
        list(row_weights(np.arange(9), 9, 10, 0))
