"""Worlds and their traffic: what is drawn is what the world says, and what users lose is counted there."""

import itertools

import numpy as np
import pytest

from benchmarks.gates.cases import OURS, OURS_SHADOW, WORSE
from benchmarks.gates.experiment import Case, Result, run, run_all
from benchmarks.gates.outcome import Ended, Outcome
from benchmarks.gates.peers import Flagger
from benchmarks.gates.traffic import HORIZON_S, Traffic
from benchmarks.gates.worlds import BASE_RATES, DAY_S, Bursts, Scenario, World


def traffic(world: World, seed: int = 1) -> Traffic:
    return Traffic(world, np.random.default_rng(seed))


def test_requests_fall_to_the_arms_by_the_weight_and_fail_by_their_rates():
    window = traffic(World(1_000, 0.01, 0.05)).advance(1_000, 0.25)
    assert window.candidate == pytest.approx(250_000, rel=0.02)
    assert window.stable == pytest.approx(750_000, rel=0.02)
    assert window.candidate_failed / window.candidate == pytest.approx(0.05, rel=0.05)
    assert window.stable_failed / window.stable == pytest.approx(0.01, rel=0.05)


def test_a_fault_begins_at_its_onset_and_only_what_stable_would_have_answered_is_excess():
    told = traffic(World(1_000, 0.01, 0.05, onset_s=500))
    assert told.advance(500, 0.5).candidate_failed / 250_000 == pytest.approx(0.01, rel=0.1)
    assert told.excess == 0
    told.advance(500, 0.5)
    assert told.excess == pytest.approx(500 * 500 * 0.04, rel=0.05)


def test_nobody_loses_by_copies():
    told = traffic(World(100, 0.01, 0.5))
    window = told.mirror(100)
    assert window.candidate == window.stable > 0
    assert window.candidate_failed > 4_000
    assert told.excess == 0


def test_a_wrong_promotion_costs_until_the_horizon_and_no_candidate_costs_nothing():
    promoted, back = (traffic(World(100, 0.01, 0.05)) for _ in range(2))
    promoted.finish(1.0)
    back.finish(0.0)
    assert promoted.excess == pytest.approx(100 * HORIZON_S * 0.04, rel=0.05)
    assert back.excess == 0


def test_bursts_are_each_arms_own_and_no_fault_of_the_candidate():
    world = World(1_000, 0.005, 0.005, bursts=Bursts(1 / 30, 5, 0.3))
    told = traffic(world)
    windows = [told.advance(10, 0.5) for _ in range(300)]
    candidate = np.array([each.candidate_failed / each.candidate for each in windows])
    stable = np.array([each.stable_failed / each.stable for each in windows])
    assert candidate.mean() == pytest.approx(stable.mean(), rel=0.3)
    assert candidate.std() > 0.02
    assert abs(np.corrcoef(candidate, stable)[0, 1]) < 0.2
    assert told.excess == 0


def test_a_days_load_swings_about_its_mean():
    world = World(100, 0.01, 0.01, swing=0.5)
    assert world.load(0, DAY_S) == pytest.approx(100)
    assert world.load(DAY_S / 4 - 1, DAY_S / 4 + 1) == pytest.approx(150, rel=1e-3)


def test_the_ranges_of_base_rates_cover_a_tenth_to_five_percent_without_a_gap():
    assert (BASE_RATES[0][0], BASE_RATES[-1][1]) == (0.001, 0.05)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(BASE_RATES))


def test_every_method_meets_the_same_worlds_and_a_seed_repeats_them():
    scenario = Scenario("any", 50, (0.001, 0.05))
    cases = {m.name: Case(scenario, m, 12) for m in (Flagger(), Flagger(threshold=1))}
    once, again, other = run_all(cases, 3), run_all(cases, 3), run_all(cases, 4)
    assert [once[name].outcomes for name in cases] == [again[name].outcomes for name in cases]
    assert [once[name].outcomes for name in cases] != [other[name].outcomes for name in cases]


@pytest.mark.parametrize("method", [OURS, OURS_SHADOW], ids=lambda each: each.name)
def test_coalmine_rolls_back_a_gross_regression_in_the_real_engine(method):
    outcome = run(Case(WORSE[40, 50], method, 1), seed=5, number=0)
    assert outcome.ended is Ended.ROLLED_BACK
    assert outcome.excess < 20
    if method is OURS_SHADOW:
        assert outcome.excess == 0


def test_an_interval_holds_the_share_and_is_wide_for_few_runs():
    few = Result((Outcome(Ended.ROLLED_BACK, 1, 0), *[Outcome(Ended.PROMOTED, 1, 0)] * 9))
    low, high = few.interval(Ended.ROLLED_BACK)
    assert (low, high) == pytest.approx((0.0025, 0.445), abs=1e-3)  # Clopper & Pearson's table
