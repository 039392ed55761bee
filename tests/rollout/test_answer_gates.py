"""The gates on what model servers answered: scores, late labels, pairs of answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coalmine.rollout.evidence import AnswerCounts, Answers, Arm, ArmCounts, PairCounts, Poll
from coalmine.rollout.gates import Gate, Verdict, kinds
from coalmine.rollout.gates.agreement import AgreementGate
from coalmine.rollout.gates.checks import CheckGate
from coalmine.rollout.gates.combine import PROMOTE_E, ROLL_BACK_E, judged, verdict
from coalmine.rollout.gates.predictions import PredictionsGate
from coalmine.rollout.gates.quality import QualityGate

BOUNDS = (*(round(0.05 * n, 2) for n in range(1, 20)), math.inf)
NOBODY = ArmCounts(0, 0)


def scores(chance: np.random.Generator, rows: int, a: float = 2.0, b: float = 5.0) -> AnswerCounts:
    drawn = chance.beta(a, b, rows)
    return AnswerCounts(tuple(int((drawn <= bound).sum()) for bound in BOUNDS))


def labels(labels: int, loss: float) -> AnswerCounts:
    return AnswerCounts((), labels, loss)


def poll(
    candidate: AnswerCounts | None, stable: AnswerCounts | None, weight: float = 0.5, **changes: Any
) -> Poll:
    both = {Arm.CANDIDATE: candidate, Arm.STABLE: stable}
    answers = {arm: counts for arm, counts in both.items() if counts is not None}
    return Poll(weight, NOBODY, NOBODY, answers=answers, score_bounds=BOUNDS, **changes)


def scored(polls: int, *, a: float = 2.0, b: float = 5.0, seed: int = 0) -> PredictionsGate:
    """After so many polls in which the candidate's scores are drawn from another beta distribution."""
    chance = np.random.default_rng(seed)
    gate = PredictionsGate.start().for_stage(0.05)
    for _ in range(polls):
        gate = gate.observe(poll(scores(chance, 100, a, b), scores(chance, 100)))
    return gate


def labelled(polls: int, candidate: float, stable: float, margin: float = 0.05) -> QualityGate:
    gate = QualityGate.start().for_stage(margin)
    for _ in range(polls):
        gate = gate.observe(poll(labels(100, 100 * candidate), labels(100, 100 * stable)))
    return gate


class TestPredictions:
    def test_like_scores_pass(self) -> None:
        assert verdict([scored(100).reading()], last=True) is Verdict.PASS

    @pytest.mark.parametrize(("a", "b", "side"), [(3.5, 5.0, "above"), (1.2, 5.0, "at most")])
    def test_scores_that_moved_either_way_roll_back_and_say_where(
        self, a: float, b: float, side: str
    ) -> None:
        reading = scored(60, a=a, b=b).reading()
        assert verdict([reading], last=False) is Verdict.FAIL
        assert side in reading.sentence

    def test_like_scores_hardly_ever_roll_back(self) -> None:
        readings = [scored(60, seed=seed).reading() for seed in range(40)]
        assert sum(reading.log_e_roll_back > math.log(ROLL_BACK_E) for reading in readings) == 0

    def test_one_tail_that_is_not_proved_holds_whatever_the_others_say(self) -> None:
        gate = scored(60, a=1.55, b=4.6)
        by_event = gate.comparison.log_e_promote_by_event
        assert max(by_event) > math.log(PROMOTE_E) > min(by_event)
        assert gate.reading().log_e_promote == min(by_event)

    def test_a_server_that_began_anew_shows_nothing_in_that_poll(self) -> None:
        gate = scored(20)
        chance = np.random.default_rng(3)
        after = gate.observe(poll(None, scores(chance, 100)))
        assert after.reading() == gate.reading()

    def test_a_server_that_cannot_be_read_is_an_error_until_it_can(self) -> None:
        gate, chance = scored(100), np.random.default_rng(3)
        unread = poll(None, scores(chance, 9), unread=(Arm.CANDIDATE,), missing=("connection refused",))
        reading = gate.observe(unread).reading()
        assert reading.verdict is Verdict.ERROR
        assert reading.sentence == "the model servers of candidate could not be read (connection refused)"
        assert verdict([reading], last=False) is Verdict.ERROR
        again = gate.observe(unread).observe(poll(scores(chance, 100), scores(chance, 100)))
        assert verdict([again.reading()], last=False) is Verdict.PASS

    def test_two_releases_that_count_by_other_bounds_are_an_error(self) -> None:
        odd = Poll(0.5, NOBODY, NOBODY, answers={}, score_bounds=())
        assert scored(5).observe(odd).reading().verdict is Verdict.ERROR

    def test_the_bake_is_not_compared(self) -> None:
        gate, chance = scored(20), np.random.default_rng(3)
        assert gate.observe(poll(scores(chance, 900, 9, 2), scores(chance, 0), weight=1.0)) == gate

    def test_history_chooses_the_bounds_before_the_first_poll(self) -> None:
        counts = scores(np.random.default_rng(0), 2000).within
        history = Answers("1", tuple(zip(BOUNDS, counts, strict=True)))
        gate = PredictionsGate.start(history=history).for_stage(0.05)
        for bound in gate.high:
            assert 0.01 < 1 - counts[bound] / 2000 < 0.65
        for bound in gate.low:
            assert 0.01 < counts[bound] / 2000 < 0.65


class TestQuality:
    def test_no_worse_answers_pass(self) -> None:
        assert verdict([labelled(60, 0.1, 0.1).reading()], last=True) is Verdict.PASS

    def test_worse_answers_roll_back(self) -> None:
        reading = labelled(40, 0.25, 0.1).reading()
        assert verdict([reading], last=False) is Verdict.FAIL
        assert reading.sentence == ("the candidate lost 0.25 by label in 4,000 labels, stable 0.1 in 4,000")

    @pytest.mark.parametrize("which", [Arm.CANDIDATE, Arm.STABLE])
    def test_without_labels_on_an_arm_nothing_is_shown(self, which: Arm) -> None:
        gate = QualityGate.start().for_stage(0.2)
        counts = {Arm.CANDIDATE: labels(50, 1.0), Arm.STABLE: labels(50, 1.0)} | {which: labels(0, 0.0)}
        for _ in range(200):
            gate = gate.observe(poll(counts[Arm.CANDIDATE], counts[Arm.STABLE]))
        assert (gate.reading().log_e_roll_back, gate.reading().log_e_promote) == (0, 0)
        assert verdict([gate.reading()], last=False) is Verdict.INCONCLUSIVE
        assert "no label has come yet" in gate.reading().sentence

    def test_the_bake_is_compared_with_what_stable_lost(self) -> None:
        gate = labelled(20, 0.1, 0.1)
        for _ in range(30):
            gate = gate.observe(poll(labels(100, 40.0), labels(5, 5.0), weight=1.0))
        assert verdict([gate.reading()], last=True) is Verdict.FAIL
        assert gate.comparison.rollout.stable_requests == 2000

    def test_a_bake_with_no_label_of_stable_is_an_error(self) -> None:
        gate = QualityGate.start().for_stage(0.1).observe(poll(labels(9, 1.0), labels(0, 0.0), weight=1.0))
        assert gate.reading().verdict is Verdict.ERROR


class TestAgreement:
    @pytest.mark.parametrize(
        ("different", "said"), [(0, Verdict.PASS), (20, Verdict.INCONCLUSIVE), (60, Verdict.FAIL)]
    )
    def test_few_pairs_may_differ(self, different: int, said: Verdict) -> None:
        gate = AgreementGate.start(at_most=0.02).for_stage(0.0)
        for _ in range(5):
            gate = gate.observe(poll(None, None, pairs=PairCounts(200, different // 5)))
        assert verdict([gate.reading()], last=False) is said
        assert gate.reading().sentence == f"{different} of 1,000 pairs of answers differ, 2.00% may"

    def test_without_pairs_nothing_is_shown_and_with_nobody_who_compares_it_is_an_error(self) -> None:
        gate = AgreementGate.start().for_stage(0.0)
        assert gate.observe(
            poll(None, None, pairs=PairCounts(0, 0))
        ).reading().log_e_promote == pytest.approx(0)
        nobody = gate.observe(poll(None, None, missing=("the agreement server is down",))).reading()
        assert (nobody.verdict, nobody.sentence) == (Verdict.ERROR, "the agreement server is down")

    def test_a_stage_begins_without_promote_evidence(self) -> None:
        gate = AgreementGate.start().for_stage(0.0).observe(poll(None, None, pairs=PairCounts(500, 0)))
        assert gate.reading().log_e_promote > 1
        assert gate.for_stage(0.0).reading().log_e_promote == pytest.approx(0)
        assert gate.for_stage(0.0).above == gate.above


class TestChecks:
    def looked(self, *said: Verdict, breaches: int = 3) -> Verdict | None:
        gate = CheckGate("hook", breaches).for_stage(0.0)
        for each in said:
            gate = gate.look(each, "so it is", None)
        return gate.reading().verdict

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ("", Verdict.INCONCLUSIVE),
            ("P", Verdict.PASS),
            ("FF", Verdict.INCONCLUSIVE),
            ("FFF", Verdict.FAIL),
            ("FFPFF", Verdict.INCONCLUSIVE),
            ("FFIF", Verdict.INCONCLUSIVE),
            ("FFEF", Verdict.FAIL),
            ("PE", Verdict.ERROR),
            ("EEEEEE", Verdict.ERROR),
        ],
    )
    def test_so_many_failing_looks_in_a_row(self, said: str, expected: Verdict) -> None:
        by_letter = {each.name[0]: each for each in Verdict}
        assert self.looked(*(by_letter[letter] for letter in said)) is expected

    def test_a_stage_is_not_passed_by_the_one_before(self) -> None:
        gate = CheckGate("hook", 3).look(Verdict.PASS, "well", 1.0)
        assert gate.for_stage(0.0).reading().verdict is Verdict.INCONCLUSIVE

    def test_failing_looks_in_a_row_count_across_stages(self) -> None:
        gate = CheckGate("hook", 2).look(Verdict.FAIL, "bad", 1.0).for_stage(0.0)
        assert gate.look(Verdict.FAIL, "bad", 1.0).reading().verdict is Verdict.FAIL


EXAMPLES: list[Callable[[], Gate]] = [
    lambda: scored(3),
    lambda: labelled(3, 0.2, 0.1),
    lambda: AgreementGate.start(name="same").observe(poll(None, None, pairs=PairCounts(9, 1))),
    lambda: CheckGate("hook", 3).look(Verdict.FAIL, "no", 0.5),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_is_saved_comes_back_equal(example: Callable[[], Gate]) -> None:
    gate = example()
    text = json.dumps(kinds.to_json(gate))
    assert kinds.from_json(json.loads(text)) == gate
    assert len(text) < 4_500


def test_each_reading_gets_the_verdict_that_follows_from_it_as_one_of_several() -> None:
    readings = judged([labelled(40, 0.25, 0.1).reading(), scored(100).reading()], last=False)
    assert [reading.verdict for reading in readings] == [Verdict.FAIL, Verdict.PASS]
