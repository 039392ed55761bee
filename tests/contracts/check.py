"""What every Check keeps, run over each adapter and the simulator.

Subclass `CheckContract` in a test module and give it the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import Asked, Check
from coalmine.slots import Slot

ASKED = Asked(Slot.GREEN, "25 %", {Slot.GREEN: 25, Slot.BLUE: 75}, 1_000.0)


class CheckContract:
    @pytest.fixture
    def check(self) -> Check:
        """A check of a world in which all is well."""
        raise NotImplementedError

    @pytest.fixture
    def spoil(self) -> Callable[[], None]:
        """From now on what it asks about is bad."""
        raise NotImplementedError

    @pytest.fixture
    def cut(self) -> Callable[[], None]:
        """From now on whoever it asks cannot be reached."""
        raise NotImplementedError

    def test_what_is_well_passes_and_what_is_bad_fails_each_with_a_sentence(
        self, check: Check, spoil: Callable[[], None]
    ) -> None:
        well = check.look(ASKED)
        spoil()
        bad = check.look(ASKED)
        assert (well.verdict, bad.verdict) == (Verdict.PASS, Verdict.FAIL)
        assert well.sentence
        assert bad.sentence

    def test_it_says_what_is_now_and_keeps_nothing_of_the_look_before(
        self, check: Check, spoil: Callable[[], None]
    ) -> None:
        assert check.look(ASKED) == check.look(ASKED)
        spoil()
        assert check.look(ASKED) == check.look(ASKED)

    def test_who_cannot_be_reached_is_an_error_in_words_and_no_exception(
        self, check: Check, cut: Callable[[], None]
    ) -> None:
        check.look(ASKED)
        cut()
        for _ in range(2):
            result = check.look(ASKED)
            assert result.verdict is Verdict.ERROR
            assert result.sentence
