"""What was seen of a release from look to look, whatever becomes of its servers and of who looks."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from coalmine.rollout.evidence import AnswerCounts, Answers
from coalmine.triggers.watched import Watched, against


def life(started: str, rows: int, labels: int, loss: float) -> Answers:
    return Answers(started, ((0.5, rows // 2), (math.inf, rows)), labels, loss)


def looks(*seen: dict[str, Answers]) -> tuple[Watched, list[AnswerCounts]]:
    """After so many looks: what the last one found new."""
    watched, new = Watched.begin("d1gest"), []
    for answers in seen:
        watched, new = watched.with_answers(answers)
    return watched, new


A, A_LATER, B = life("1.0", 100, 10, 2.0), life("1.0", 160, 14, 3.0), life("9.0", 20, 1, 0.5)


def test_the_first_look_counts_all_that_the_release_has_answered_here() -> None:
    assert looks({"1.0": A})[1] == [AnswerCounts((50, 100), 10, 2.0)]


def test_a_look_counts_what_is_new_since_the_last() -> None:
    assert looks({"1.0": A}, {"1.0": A_LATER})[1] == [AnswerCounts((30, 60), 4, 1.0)]
    assert looks({"1.0": A}, {"1.0": A})[1] == [AnswerCounts((0, 0), 0, 0.0)]


def test_bins_grow_from_look_to_look_and_begin_anew_with_the_server() -> None:
    first = {"1.0": replace(A, binned={"feature temp": (5, 1)})}
    second = {"1.0": replace(A_LATER, binned={"feature temp": (9, 1), "feature shop": (2,)})}
    anew = {"1.0": replace(A_LATER, binned={"feature temp": (1, 0)})}
    assert looks(first)[1][0].binned == {"feature temp": (5, 1)}
    assert looks(first, second)[1][0].binned == {"feature temp": (4, 0), "feature shop": (2,)}
    assert looks(first, second, anew)[1] == []  # it counts less than before: no life of ours
    other = {"1.0": replace(A_LATER, binned={"feature temp": (9, 1, 0)})}
    assert looks(first, other)[1] == []
    assert looks({"1.0": A}, second)[1][0].binned == {"feature temp": (9, 1), "feature shop": (2,)}


def test_a_server_that_started_anew_counts_whole_and_takes_nothing_back() -> None:
    assert looks({"1.0": A}, {"9.0": B})[1] == [AnswerCounts((10, 20), 1, 0.5)]


def test_a_server_that_could_not_be_seen_for_a_while_is_not_counted_twice() -> None:
    assert looks({"1.0": A}, {"9.0": B}, {"1.0": A_LATER, "9.0": B})[1][0] == AnswerCounts((30, 60), 4, 1.0)


def test_counts_that_went_back_within_a_life_are_nobodys_and_the_new_base() -> None:
    assert looks({"1.0": A_LATER}, {"1.0": A})[1] == []
    assert looks({"1.0": A_LATER}, {"1.0": A}, {"1.0": A_LATER})[1] == [AnswerCounts((30, 60), 4, 1.0)]


def test_it_is_kept_as_json_exactly() -> None:
    watched = looks({"1.0": A}, {"9.0": B})[0]
    assert Watched.from_json(json.loads(json.dumps(watched.to_json()))) == watched


def test_a_limit_that_somebody_moves_begins_the_test_anew() -> None:
    test = against(None, (0.2,)).with_counts(100, (30,))
    assert against(test, (0.2,)) is test
    assert against(test, (0.3,)).requests == 0


def test_lives_that_left_long_ago_are_forgotten_and_never_counted_twice() -> None:
    many = {"feature temp": tuple(range(1_000, 1_200))}
    watched, sizes = Watched.begin("d1gest"), []
    for number in range(300):
        watched, new = watched.with_answers(
            {str(number): replace(life(str(number), 10, 1, 0.1), binned=many)}
        )
        assert new[0].binned == many
        sizes.append(len(json.dumps(watched.to_json())))
    assert sizes[-1] < 1.2 * sizes[50]
    for number in (1, 290):  # forgotten, and kept
        watched, new = watched.with_answers(
            {str(number): replace(life(str(number), 10, 1, 0.1), binned=many)}
        )
        assert (new[0].labels, set(new[0].binned["feature temp"])) == (0, {0})
    _, new = watched.with_answers({"1": replace(life("1", 10, 3, 0.1), binned=many)})
    assert new[0].labels == 2
