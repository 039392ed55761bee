from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coalmine.checks.query import QueryCheck
from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import Asked
from coalmine.rollout_spec import QuerySpec
from coalmine.slots import Slot
from tests.contracts.check import CheckContract

ASKED = Asked(Slot.GREEN, "25 %", {Slot.BLUE: 75, Slot.GREEN: 25}, 0.0)


def check(ask: Callable[[str], float], query: str = "up", **keys: Any) -> QueryCheck:
    return QueryCheck(QuerySpec(gate="query", query=query, **keys), "credit-risk", ask)


class Told:
    """What a Prometheus answers, or that it does not."""

    value = 1.0
    down = False

    def ask(self, query: str) -> float:
        if self.down:
            raise TelemetryUnavailable(f"nobody answers {query}")
        return self.value


class TestQueryCheck(CheckContract):
    @pytest.fixture
    def told(self) -> Told:
        return Told()

    @pytest.fixture
    def check(self, told: Told) -> QueryCheck:
        return check(told.ask, at_least=1)

    @pytest.fixture
    def spoil(self, told: Told) -> Callable[[], None]:
        return lambda: setattr(told, "value", 0.0)

    @pytest.fixture
    def cut(self, told: Told) -> Callable[[], None]:
        return lambda: setattr(told, "down", True)


@pytest.mark.parametrize(
    ("value", "bounds", "verdict"),
    [
        pytest.param(5.0, {"at_most": 5.0}, Verdict.PASS, id="on the upper bound"),
        pytest.param(5.1, {"at_most": 5.0}, Verdict.FAIL, id="above it"),
        pytest.param(5.0, {"at_least": 5.0}, Verdict.PASS, id="on the lower bound"),
        pytest.param(4.9, {"at_least": 5.0}, Verdict.FAIL, id="below it"),
        pytest.param(3.0, {"at_least": 2.0, "at_most": 5.0}, Verdict.PASS, id="between the two"),
        pytest.param(1.0, {"at_least": 2.0, "at_most": 5.0}, Verdict.FAIL, id="below both"),
        pytest.param(-1.0, {"at_most": 0.0}, Verdict.PASS, id="less than nothing"),
    ],
)
def test_a_value_is_held_against_bounds(value: float, bounds: dict[str, float], verdict: Verdict) -> None:
    result = check(lambda _: value, **bounds).look(ASKED)
    assert (result.verdict, result.value) == (verdict, value)
    assert f"{value:g}" in result.sentence


@pytest.mark.parametrize(
    ("candidate", "stable", "ratio", "verdict"),
    [
        pytest.param(1.2, 1.0, 1.2, Verdict.PASS, id="at most, on the ratio"),
        pytest.param(1.3, 1.0, 1.2, Verdict.FAIL, id="at most, beyond it"),
        pytest.param(0.9, 1.0, 0.9, Verdict.PASS, id="at least, on the ratio"),
        pytest.param(0.8, 1.0, 0.9, Verdict.FAIL, id="at least, below it"),
        pytest.param(0.0, 0.0, 1.2, Verdict.PASS, id="both nothing"),
        pytest.param(0.1, 0.0, 1.2, Verdict.FAIL, id="something where stable has nothing"),
        pytest.param(-1.0, -2.0, 1.2, Verdict.ERROR, id="less than nothing has no ratio"),
    ],
)
def test_the_candidate_is_held_against_stable(
    candidate: float, stable: float, ratio: float, verdict: Verdict
) -> None:
    values = {"errors of green": candidate, "errors of blue": stable}
    look = check(values.__getitem__, "errors of $slot", against="stable", ratio=ratio)
    result = look.look(ASKED)
    assert (result.verdict, result.value) == (verdict, candidate)


def test_slot_and_model_are_filled_in_wherever_they_stand() -> None:
    asked = []

    def ask(query: str) -> float:
        asked.append(query)
        return 0.0

    check(ask, 'sum(x{m="$model",s=~"$slot"}) / sum(y{s="$slot"})', at_most=1).look(ASKED)
    assert asked == ['sum(x{m="credit-risk",s=~"green"}) / sum(y{s="green"})']


@pytest.mark.parametrize("fails", ["green", "blue"], ids=["of the candidate", "of stable"])
def test_a_number_that_cannot_be_had_is_an_error_in_the_words_of_who_was_asked(fails: str) -> None:
    def ask(query: str) -> float:
        if query == fails:
            raise TelemetryUnavailable("The query finds nothing")
        return 1.0

    result = check(ask, "$slot", against="stable", ratio=1.5).look(ASKED)
    assert result.verdict is Verdict.ERROR
    assert result.sentence == "The query finds nothing."
    assert result.value is None
