"""Each peer's documented rule, on windows that are told one by one."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.gates.outcome import Ended
from benchmarks.gates.peers import Argo, Flagger, Kayenta, Oracle, ZTest
from benchmarks.gates.traffic import Traffic, Window
from benchmarks.gates.worlds import World

GOOD, BAD, NO_DATA = Window(100, 0, 900, 0), Window(100, 50, 900, 0), Window(0, 0, 900, 0)


@dataclass
class Told(Traffic):
    """Windows as told, the last one again and again; keeps the weights that were asked for."""

    windows: list[Window]
    weights: list[float] = field(default_factory=list)
    now_s: float = 0.0
    excess: int = 0
    world: World = field(default_factory=lambda: World(50, 0.01, 0.04))

    def advance(self, seconds: float, weight: float) -> Window:
        self.now_s += seconds
        self.weights.append(weight)
        return self.windows.pop(0) if len(self.windows) > 1 else self.windows[0]

    def finish(self, weight: float) -> None:
        self.weights.append(weight)


class TestFlagger:
    def test_a_good_candidate_climbs_one_weight_an_interval_and_is_promoted_after_the_last(self):
        traffic = Told([GOOD])
        outcome = Flagger().run(traffic)
        assert (outcome.ended, outcome.at_s) == (Ended.PROMOTED, 180)
        assert traffic.weights == [0.05, 0.25, 0.5, 1.0]

    def test_it_rolls_back_on_the_tick_after_the_threshold_and_never_climbs_meanwhile(self):
        traffic = Told([BAD])
        outcome = Flagger(threshold=5).run(traffic)
        assert (outcome.ended, outcome.at_s) == (Ended.ROLLED_BACK, 360)
        assert set(traffic.weights) == {0.05}

    def test_success_does_not_reset_its_counter(self):
        outcome = Flagger(threshold=2).run(Told([BAD, GOOD, BAD, GOOD]))
        assert (outcome.ended, outcome.at_s) == (Ended.ROLLED_BACK, 240)

    def test_the_tick_after_the_threshold_rolls_back_even_when_the_check_has_recovered(self):
        assert Flagger(threshold=1).run(Told([BAD, GOOD])).ended is Ended.ROLLED_BACK

    def test_no_data_is_a_failed_check(self):
        assert Flagger(threshold=3).run(Told([NO_DATA])).at_s == 240

    def test_a_share_at_the_limit_is_no_failure(self):
        assert Flagger(most_failed=0.5).run(Told([BAD])).ended is Ended.PROMOTED


class TestArgo:
    def test_one_failure_more_than_the_limit_aborts_at_once(self):
        assert Argo(limit=0).run(Told([BAD])).at_s == 60
        assert Argo(limit=3).run(Told([BAD])).at_s == 240

    def test_failures_need_not_follow_one_another(self):
        assert Argo(limit=1).run(Told([BAD, GOOD, GOOD, BAD, GOOD])).at_s == 240

    def test_it_promotes_after_its_pauses(self):
        traffic = Told([GOOD])
        assert (Argo().run(traffic).ended, traffic.now_s) == (Ended.PROMOTED, 900)
        assert traffic.weights == [0.05] * 5 + [0.25] * 5 + [0.5] * 5 + [1.0]

    def test_five_errors_in_a_row_abort(self):
        assert Argo(limit=9).run(Told([NO_DATA])).at_s == 300
        assert Argo(limit=9).run(Told([NO_DATA] * 4 + [GOOD])).ended is Ended.PROMOTED


class TestKayenta:
    def test_it_judges_after_its_first_interval(self):
        assert Kayenta().run(Told([BAD])).at_s == 300

    def test_it_promotes_after_a_fixed_time(self):
        assert (Kayenta().run(Told([GOOD])).ended, Kayenta().run(Told([GOOD])).at_s) == (
            Ended.PROMOTED,
            1_800,
        )

    def test_a_shift_within_chance_is_not_high(self):
        assert not Kayenta().is_high([0.01, 0.0, 0.02, 0.01, 0.0], [0.0, 0.01, 0.01, 0.02, 0.0])

    def test_too_few_minutes_for_its_confidence_are_never_high(self):
        assert not Kayenta().is_high([0.5, 0.5], [0.0, 0.0])
        assert Kayenta().is_high([0.5] * 6, [0.0] * 6)

    def test_a_shift_within_the_tolerance_of_the_estimate_is_not_high(self):
        candidate, stable = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.0] * 8
        assert Kayenta(tolerance=0.25).is_high(candidate, stable)
        assert not Kayenta(tolerance=1.0).is_high(candidate, stable)


class TestZTest:
    def test_its_score_is_the_pooled_two_proportion_z(self):
        # 30 of 1,000 against 10 of 1,000: pooled .02, z = .02 / sqrt(.02 .98 .002).
        assert ZTest.score(Window(1_000, 30, 1_000, 10)) == pytest.approx(3.194, abs=1e-3)

    def test_it_counts_everything_since_the_start(self):
        outcome = ZTest(z=4.0).run(Told([Window(100, 5, 900, 9)]))
        assert (outcome.ended, outcome.at_s) == (Ended.ROLLED_BACK, 10)

    def test_nothing_to_compare_is_no_evidence(self):
        assert ZTest.score(Window(0, 0, 100, 1)) == ZTest.score(Window(100, 0, 100, 0)) == 0


class TestOracle:
    def test_it_rolls_back_at_a_likelihood_ratio_of_100(self):
        # Each window: ln 4 for each failure, ln(.96 / .99) for each answer.
        one = 4 * np.log(4) + 96 * np.log(0.96 / 0.99)
        assert one < np.log(100) < 2 * one
        outcome = Oracle().run(Told([Window(100, 4, 900, 9)]))
        assert (outcome.ended, outcome.at_s) == (Ended.ROLLED_BACK, 4)

    def test_it_never_promotes(self):
        assert Oracle().run(Told([GOOD])).ended is Ended.UNDECIDED
