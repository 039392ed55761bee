import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from coalmine.statistics.comparison import Comparison
from coalmine.statistics.eprocess import Null, TwoArmCounts
from coalmine.statistics.intervals import upper_limit

NO_HISTORY = TwoArmCounts(0, 0, (0,), (0,))


def one_event(candidate_requests: int, candidate: int, stable_requests: int, stable: int) -> TwoArmCounts:
    return TwoArmCounts(candidate_requests, stable_requests, (candidate,), (stable,))


def comparison(margin: float = 0.0025, history: TwoArmCounts = NO_HISTORY) -> Comparison:
    return Comparison.start(Null(1.05, 0.0002), 1.25, history, polls_per_start=30).for_stage(margin)


def outcomes_of_two_polls(requests: int):
    """Each (n_c, x_c, n_s, x_s) of two polls in a row, over every split and outcome."""
    one_poll = [
        (n_c, x_c, requests - n_c, x_s)
        for n_c in range(requests + 1)
        for x_c in range(n_c + 1)
        for x_s in range(requests - n_c + 1)
    ]
    return itertools.product(one_poll, one_poll)


def probability(poll: tuple[int, int, int, int], weight: float, candidate: float, stable: float) -> float:
    n_c, x_c, n_s, x_s = poll

    def of(n: int, x: int, p: float) -> float:
        return math.comb(n, x) * p**x * (1 - p) ** (n - x)

    return of(n_c + n_s, n_c, weight) * of(n_c, x_c, candidate) * of(n_s, x_s, stable)


@pytest.mark.parametrize("dispersion", [1.0, 4.0, 50.0])
@pytest.mark.parametrize("weight", [0.05, 0.5])
def test_two_polls_expect_at_most_1_so_each_bets_on_the_past_alone(weight, dispersion):
    log_e = {}
    for first, second in outcomes_of_two_polls(3):
        after = replace(comparison(), dispersion=dispersion)
        after = after.with_poll(one_event(*first), weight).with_poll(one_event(*second), weight)
        log_e[first, second] = (after.roll_back.log_e, after.promote.log_e)
    for stable in (0.001, 0.02, 0.3, 0.6):
        for candidates, question in (((1.05 * stable + 0.0002,), 0), ((1.25 * stable + 0.0025, 0.9), 1)):
            for candidate in candidates:
                expected = sum(
                    math.exp(values[question])
                    * probability(first, weight, candidate, stable)
                    * probability(second, weight, candidate, stable)
                    for (first, second), values in log_e.items()
                )
                assert expected <= 1 + 1e-9


@pytest.mark.parametrize("weight", [0.05, 1], ids=["beside-stable", "alone"])
@pytest.mark.parametrize("polls", [1, 500])
def test_a_candidate_without_requests_shows_nothing(weight, polls):
    before = comparison().with_poll(one_event(50, 1, 950, 5), 0.05)
    after = before
    for _ in range(polls):
        after = after.with_poll(one_event(0, 0, 100, 0), weight)
    assert (after.log_e_roll_back, after.log_e_promote) == (before.log_e_roll_back, before.log_e_promote)


def test_stable_without_requests_shows_nothing():
    after = comparison(history=one_event(0, 0, 10_000, 50)).with_poll(one_event(500, 0, 0, 0), 0.5)
    assert (after.log_e_roll_back, after.log_e_promote) == (0, 0)


def test_a_poll_without_requests_counts_against_nobody():
    after = comparison().with_poll(one_event(0, 0, 0, 0), 0.05).with_poll(one_event(0, 0, 0, 0), 1)
    assert after.rollout == one_event(0, 0, 0, 0)
    assert (after.log_e_roll_back, after.log_e_promote) == (0, 0)


def test_roll_back_evidence_carries_over_and_promote_evidence_starts_anew():
    before = comparison().with_poll(one_event(400, 3, 600, 4), 0.4)
    assert before.log_e_roll_back != 0 != before.log_e_promote
    after = before.for_stage(0.05)
    assert after.log_e_roll_back == before.log_e_roll_back
    assert after.roll_back == before.roll_back
    assert after.log_e_promote == 0
    assert after.promote.null == Null(1.25, 0.05)
    assert after.rollout == before.rollout


def test_a_wider_margin_is_proved_sooner():
    poll = one_event(500, 3, 500, 3)
    narrow = comparison(0.0025).with_poll(poll, 0.5)
    wide = comparison(0.05).with_poll(poll, 0.5)
    assert wide.log_e_promote > narrow.log_e_promote


def test_history_places_better_bets():
    poll = one_event(100, 30, 100, 20)
    known = comparison(history=one_event(0, 0, 5_000, 1_000)).with_poll(poll, 0.5)
    unknown = comparison().with_poll(poll, 0.5)
    # Without it, the first poll is taken for a service that hardly ever fails.
    assert abs(known.log_e_roll_back) < abs(unknown.log_e_roll_back)


class TestBake:
    """Stable has no traffic any more: the candidate against the limit of what stable was."""

    def test_the_limit_is_fixed_when_the_bake_begins(self):
        before = comparison().with_poll(one_event(500, 2, 500, 3), 0.5)
        first = before.with_poll(one_event(100, 0, 0, 0), 1)
        assert first.stable_limits == (pytest.approx(float(upper_limit(3, 500))),)
        # Stragglers of stable's do not move it.
        straggler = one_event(100, 0, 1, 1)
        assert first.with_poll(straggler, 1).with_poll(straggler, 1).stable_limits == first.stable_limits

    def test_a_stage_with_stable_traffic_after_it_gives_the_next_bake_a_limit_of_its_own(self):
        baked = comparison().with_poll(one_event(500, 2, 500, 3), 0.5).with_poll(one_event(9, 0, 0, 0), 1)
        beside = baked.for_stage(0.0025).with_poll(one_event(500, 2, 500, 40), 0.5)
        again = beside.for_stage(0.0025).with_poll(one_event(9, 0, 0, 0), 1)
        assert again.stable_limits == (pytest.approx(float(upper_limit(43, 1_000))),)

    def test_two_polls_expect_at_most_1_so_each_bets_on_the_past_alone(self):
        before = comparison(0.2, history=one_event(0, 0, 1_000, 300))
        limit = float(upper_limit(300, 1_000))
        for question, rate in ((0, 1.05 * limit + 0.0002), (1, 1.25 * limit + 0.2)):
            expected = 0.0
            for first, second in itertools.product(range(7), range(7)):
                after = before.with_poll(one_event(6, first, 0, 0), 1).with_poll(
                    one_event(6, second, 0, 0), 1
                )
                log_e = (after.roll_back.log_e, after.promote.log_e)[question]
                expected += math.exp(log_e) * math.prod(
                    math.comb(6, failed) * rate**failed * (1 - rate) ** (6 - failed)
                    for failed in (first, second)
                )
            assert expected <= 1 + 1e-9

    def test_a_candidate_that_breaks_in_the_bake_is_found(self):
        after = comparison().with_poll(one_event(1_000, 5, 1_000, 5), 0.5).for_stage(0.0025)
        for _ in range(5):
            after = after.with_poll(one_event(100, 20, 0, 0), 1)
        assert after.log_e_roll_back > math.log(100)
        assert after.log_e_promote < 0

    def test_a_good_candidate_passes_the_bake(self):
        after = comparison().with_poll(one_event(10_000, 50, 10_000, 50), 0.5).for_stage(0.0025)
        for _ in range(120):
            after = after.with_poll(one_event(200, 1, 0, 0), 1)
        assert after.log_e_promote > math.log(100)
        assert after.log_e_roll_back < math.log(2)

    def test_worse_than_stable_but_within_what_stable_may_have_been_does_not_roll_back(self):
        # Stable is known from 60 requests only: its rate may be as high as 13 %.
        before = comparison().with_poll(one_event(60, 2, 60, 2), 0.5).for_stage(0.0025)
        after = before
        for _ in range(60):
            after = after.with_poll(one_event(100, 10, 0, 0), 1)
        assert after.log_e_roll_back <= before.log_e_roll_back

    def test_a_rollout_that_never_gave_stable_traffic_goes_by_its_history(self):
        after = comparison(history=one_event(0, 0, 10_000, 50)).with_poll(one_event(100, 30, 0, 0), 1)
        assert after.log_e_roll_back > math.log(100)

    def test_nothing_known_of_stable_shows_nothing_either_way(self):
        for failures in (0, 100):
            after = comparison().with_poll(one_event(100, failures, 0, 0), 1)
            assert after.log_e_roll_back == pytest.approx(0, abs=1e-12)
            assert after.log_e_promote == pytest.approx(0, abs=1e-12)


def test_events_may_be_exchanged_between_polls_with_the_evidence_kept():
    before = comparison().with_poll(one_event(100, 20, 100, 1), 0.5)
    other = before.with_events(one_event(100, 50, 100, 40), NO_HISTORY)
    assert other.log_e_roll_back == before.log_e_roll_back
    assert np.isfinite(other.with_poll(one_event(100, 50, 100, 40), 0.5).log_e_roll_back)


@pytest.mark.parametrize("weight", [0.05, 1], ids=["beside-stable", "alone"])
def test_dispersed_requests_are_worth_fewer_and_are_told_as_counted(weight):
    history = one_event(0, 0, 10_000, 50)
    worse = one_event(50, 10, 950, 5)
    plain = Comparison.start(Null(1.05, 0.0002), 1.25, history, 30).with_poll(worse, weight)
    dispersed = Comparison.start(Null(1.05, 0.0002), 1.25, history, 30, dispersion=3.0)
    dispersed = dispersed.with_poll(worse, weight)
    assert 0 < dispersed.log_e_roll_back < plain.log_e_roll_back
    assert dispersed.rollout == plain.rollout == worse


def test_the_bakes_limit_of_dispersed_requests_is_that_of_fewer():
    history = one_event(0, 0, 10_000, 50)
    for factor in (1.0, 4.0):
        baking = Comparison.start(Null(1.05, 0.0002), 1.25, history, 30, dispersion=factor)
        baking = baking.with_poll(one_event(10, 0, 0, 0), 1)
        assert baking.stable_limits == tuple(upper_limit([50 / factor], 10_000 / factor))


@pytest.mark.parametrize("empty", [one_event(0, 0, 100, 3), one_event(100, 3, 0, 0)])
def test_an_empty_arm_is_counted_and_not_bet_on_where_the_split_is_only_realised(empty):
    before = comparison().with_realised_poll(one_event(50, 1, 950, 5))
    after = before.with_realised_poll(empty)
    assert after == before.with_counted(empty)
    assert (after.roll_back, after.promote) == (before.roll_back, before.promote)
    assert after.rollout == before.rollout + empty


def test_a_realised_split_of_any_size_expects_at_most_1():
    for n_c, n_s, stable in itertools.product((1, 3), (1, 4), (0.001, 0.02, 0.3, 0.6)):
        for candidate, question in ((1.05 * stable + 0.0002, 0), (1.25 * stable + 0.0025, 1)):
            expected = 0.0
            for x_c, x_s in itertools.product(range(n_c + 1), range(n_s + 1)):
                after = comparison().with_realised_poll(one_event(n_c, x_c, n_s, x_s))
                given = probability((n_c, x_c, n_s, x_s), 0.5, candidate, stable)
                share = given / (math.comb(n_c + n_s, n_c) * 0.5 ** (n_c + n_s))
                expected += math.exp((after.roll_back.log_e, after.promote.log_e)[question]) * share
            assert expected <= 1 + 1e-9


def test_promote_evidence_is_told_event_by_event():
    history = TwoArmCounts(0, 1_000, (0, 0), (10, 10))
    two = Comparison.start(Null(1.05, 0.0002), 1.25, history, 30).for_stage(0.05)
    assert two.log_e_promote_by_event == (0, 0)
    after = two.with_poll(TwoArmCounts(100, 900, (1, 60), (9, 9)), 0.1)
    good, bad = after.log_e_promote_by_event
    assert good > 0 > bad
    assert after.for_stage(0.01).log_e_promote_by_event == (0, 0)


def test_a_small_arm_has_small_bursts_and_a_mirrored_one_has_whole_ones():
    def kept(worse: TwoArmCounts, weight: float, mirrored: bool = False) -> float:
        """The share of the evidence that a dispersion of 10 leaves."""
        history = one_event(0, 0, 100_000, 500)
        starts = (Comparison.start(Null(1.05, 0.0002), 1.25, history, 30, factor) for factor in (1.0, 10.0))
        plain, dispersed = (start.with_poll(worse, weight, mirrored).log_e_roll_back for start in starts)
        return dispersed / plain

    small, half = one_event(50, 20, 950, 5), one_event(500, 200, 500, 3)
    assert kept(small, 0.05) > 0.25
    assert 0.1 < kept(half, 0.5) < 0.25
    assert 0.05 < kept(half, 0.5, mirrored=True) < 0.12


def test_what_an_earlier_stage_has_proved_does_not_count_in_the_next():
    poll = one_event(100, 0, 900, 4)
    proved = comparison(margin=0.05, history=one_event(0, 0, 10_000, 50))
    for _ in range(5):
        proved = proved.with_poll(poll, 0.1)
    assert proved.log_e_promote > math.log(20)
    next_stage = proved.for_stage(0.05).with_poll(poll, 0.1)
    assert next_stage.log_e_promote < proved.log_e_promote / 3
    assert next_stage.promote.polls == 1
