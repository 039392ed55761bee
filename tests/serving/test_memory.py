from __future__ import annotations

import numpy as np

from coalmine.serving.memory import LabelOutcome, ServedPredictions


def test_the_oldest_prediction_goes_first_and_its_label_is_late() -> None:
    memory = ServedPredictions(max_ids=2)
    for request_id in ("a", "b", "c"):
        memory.remember(request_id, (0.5,))
    assert [memory.outcome(each) for each in "abcd"] == [
        LabelOutcome.LATE,
        LabelOutcome.JOINED,
        LabelOutcome.JOINED,
        LabelOutcome.UNKNOWN,
    ]
    assert memory.waiting("a") is None


def test_rows_are_bounded_whatever_the_number_of_ids() -> None:
    memory = ServedPredictions(max_rows=10)
    memory.remember("a", np.zeros(6))
    memory.remember("b", np.zeros(6))
    assert memory.waiting("a") is None
    assert memory.waiting("b") is not None


def test_labelled_predictions_make_room_for_rows() -> None:
    memory = ServedPredictions(max_rows=10)
    memory.remember("a", np.zeros(6))
    memory.mark_labelled("a")
    memory.remember("b", np.zeros(6))
    memory.remember("c", np.zeros(4))
    assert memory.outcome("a") is LabelOutcome.DUPLICATE
    assert memory.waiting("b") is not None


def test_what_was_forgotten_is_forgotten_in_the_end() -> None:
    memory = ServedPredictions(max_ids=1)
    for request_id in ("a", "b", "c"):
        memory.remember(request_id, (0.5,))
    assert memory.outcome("a") is LabelOutcome.UNKNOWN
    assert memory.outcome("b") is LabelOutcome.LATE


def test_an_id_that_is_used_again_stands_for_its_newest_prediction() -> None:
    memory = ServedPredictions(max_rows=3)
    for score in (0.1, 0.2, 0.3, 0.4):
        memory.remember("a", (score,))
    memory.remember("b", (0.5, 0.5))
    scores = memory.waiting("a")
    assert scores is not None
    assert scores == (0.4,)


def test_the_newest_since_a_count_come_in_order_without_those_that_have_their_label() -> None:
    served = ServedPredictions()
    for name in "abcde":
        served.remember(name, (0.5,))
    served.mark_labelled("d")
    assert served.count == 5
    assert served.since(2, at_most=10) == [("c", (0.5,)), ("e", (0.5,))]
    assert [name for name, _ in served.since(0, at_most=2)] == ["e"]
    assert served.since(9, at_most=2) == []
