"""Counts between two readings: who began anew is left out, and nobody else with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coalmine.rollout.evidence import (
    AnswerCounts,
    Answers,
    Arm,
    ArmCounts,
    Counted,
    Counters,
    CountersReset,
    NotCounted,
    PairCounts,
    Pairs,
    Reading,
    between,
)

C, S = Arm.CANDIDATE, Arm.STABLE


def reading(n: int, **changes: Any) -> Reading:
    """The n-th: each counter has grown by its own step since the one before."""
    whole = Reading(
        at_s=float(n),
        epoch="1",
        arms={C: Counters(10 * n, n, ((0.1, 8 * n),)), S: Counters(90 * n, 2 * n, ((0.1, 80 * n),))},
        mirrored={C: Counters(100 * n, 3 * n), S: Counters(90 * n, 2 * n)},
        answers={
            C: Answers("a", ((0.5, 6 * n), (1.0, 9 * n)), 4 * n, 0.5 * n),
            S: Answers("b", ((0.5, 60 * n), (1.0, 88 * n)), 40 * n, 5.0 * n),
        },
        pairs=Pairs("p", 90 * n, n),
    )
    return replace(whole, **changes)


def test_everything_is_counted_between_two_readings() -> None:
    poll = between(reading(1), reading(3), 0.1)
    assert (poll.candidate, poll.stable) == (ArmCounts(20, 2, (16,)), ArmCounts(180, 4, (160,)))
    assert poll.answers == {C: AnswerCounts((12, 18), 8, 1.0), S: AnswerCounts((120, 176), 80, 10.0)}
    assert poll.score_bounds == (0.5, 1.0)
    assert poll.pairs == PairCounts(180, 2)
    assert (poll.realised, poll.mirrored) == (False, False)


def test_copies_are_compared_with_what_stable_was_asked() -> None:
    poll = between(reading(1), reading(2), 0.5, Counted.MIRRORED)
    assert (poll.candidate.requests, poll.stable.requests) == (100, 90)
    assert poll.realised
    assert poll.mirrored
    with pytest.raises(NotCounted, match="mirrored"):
        between(reading(1), reading(2, mirrored=None), 0.5, Counted.MIRRORED)


def test_a_server_that_began_anew_loses_its_own_answers_alone() -> None:
    after = reading(2)
    poll = between(reading(1), replace(after, answers={**after.answers, C: Answers("a2", ((0.5, 1),))}), 0.1)
    assert set(poll.answers) == {S}
    assert poll.unread == ()
    assert poll.candidate == ArmCounts(10, 1, (8,)), "what its users saw counts all the same"


def test_a_server_that_began_anew_is_known_by_its_epoch_although_it_counted_more_since() -> None:
    after = reading(2)
    busy = replace(after.answers[C], epoch="a2", labels=10**6)
    poll = between(reading(1), replace(after, answers={**after.answers, C: busy}), 0.1)
    assert set(poll.answers) == {S}


@pytest.mark.parametrize("changed", [{"labels": 1}, {"loss": 0.1}, {"scores": ((0.5, 1), (1.0, 2))}])
def test_answers_that_went_down_are_left_out(changed: dict[str, Any]) -> None:
    after = reading(2)
    fewer = replace(after.answers[C], **changed)
    assert C not in between(reading(1), replace(after, answers={**after.answers, C: fewer}), 0.1).answers


def test_servers_that_cannot_be_read_are_named_with_the_reason() -> None:
    after = reading(2)
    unread = replace(after, answers={S: after.answers[S]}, missing=("green: connection refused",))
    poll = between(reading(1), unread, 0.1)
    assert (poll.unread, poll.missing) == ((C,), ("green: connection refused",))


def test_servers_that_count_by_other_bounds_have_none_in_common() -> None:
    after = reading(2)
    other = replace(after, answers={**after.answers, S: Answers("b", ((0.7, 1), (1.0, 2)))})
    assert between(reading(1), other, 0.1).score_bounds == ()


def test_pairs_that_began_anew_count_as_none_and_nobody_who_compares_as_unknown() -> None:
    assert between(reading(1), reading(2, pairs=Pairs("p2", 5, 5)), 0.1).pairs == PairCounts(0, 0)
    assert between(reading(1), reading(2, pairs=None), 0.1).pairs is None


@pytest.mark.parametrize(
    "after", [reading(2, epoch="2"), replace(reading(2), arms={**reading(2).arms, C: Counters(3, 1)})]
)
def test_a_proxy_that_began_anew_makes_the_later_reading_the_base(after: Reading) -> None:
    with pytest.raises(CountersReset):
        between(reading(1), after, 0.1)
