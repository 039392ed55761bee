"""What every Journal keeps, run over each adapter and the simulator.

Subclass `JournalContract` in a test module and give it the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coalmine.errors import AlreadyRunning
from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.ports import Ask, Journal, Request

PAUSE = Request(Ask.PAUSE, "Ada", 1.0)
RESUME = Request(Ask.RESUME, "Ada", 2.0)
ABORT = Request(Ask.ABORT, "Bo", 3.0)


def saved(number: int) -> dict[str, Any]:
    """What a runner saves in its tick of that number, in which one event happened."""
    event = Event(number, 100.0 + number, EventKind.HELD, f"Sentence {number}.", 5).to_json()
    tick = {"sequence": number, "at_s": 100.0 + number, "what": "seen"}
    state = {"ticks": number + 1, "events": number + 1}
    return {"state": state, "outbox": {"ticks": [tick], "events": [event]}}


def carry_out(journal: Journal, number: int) -> None:
    """The tick of that number, as a runner saves and tells it."""
    journal.save(saved(number))
    tell(journal, number)


def tell(journal: Journal, number: int) -> None:
    outbox = saved(number)["outbox"]
    for tick in outbox["ticks"]:
        journal.append_tick(tick)
    for event in outbox["events"]:
        journal.append_event(event)


class JournalContract:
    @pytest.fixture
    def open_journal(self) -> Callable[[], Journal]:
        """The journal of one rollout, which has not begun; each time as another process has it."""
        raise NotImplementedError

    @pytest.fixture
    def ask(self) -> Callable[[Request], None]:
        """As a person asks it, in a process of their own."""
        raise NotImplementedError

    @pytest.fixture
    def told(self) -> Callable[[], tuple[list[int], list[int]]]:
        """The sequence numbers of the ticks and of the events, as a reader finds them."""
        raise NotImplementedError

    def test_no_state_before_the_first_save(self, open_journal: Callable[[], Journal]) -> None:
        assert open_journal().load() is None
        journal = open_journal()
        with journal.lease():
            assert journal.load() is None

    def test_the_last_saved_state_is_loaded_by_its_runner_and_by_whoever_looks(
        self, open_journal: Callable[[], Journal]
    ) -> None:
        journal = open_journal()
        with journal.lease():
            for number in range(3):
                carry_out(journal, number)
                assert journal.load() == saved(number)
                assert open_journal().load() == saved(number)
        assert open_journal().load() == saved(2)

    def test_each_tick_and_event_is_told_once_however_often_a_runner_goes_on(
        self,
        open_journal: Callable[[], Journal],
        told: Callable[[], tuple[list[int], list[int]]],
    ) -> None:
        for number in range(4):
            journal = open_journal()
            with journal.lease():
                if number:
                    assert journal.load() == saved(number - 1)
                    tell(journal, number - 1)
                carry_out(journal, number)
                tell(journal, number)
        assert told() == ([0, 1, 2, 3], [0, 1, 2, 3])

    def test_what_was_saved_and_not_told_is_told_by_the_next_runner(
        self,
        open_journal: Callable[[], Journal],
        told: Callable[[], tuple[list[int], list[int]]],
    ) -> None:
        killed = open_journal()
        with killed.lease():
            carry_out(killed, 0)
            killed.save(saved(1))
        heir = open_journal()
        with heir.lease():
            assert heir.load() == saved(1)
            tell(heir, 1)
            carry_out(heir, 2)
        assert told() == ([0, 1, 2], [0, 1, 2])

    def test_one_runner_at_a_time(self, open_journal: Callable[[], Journal]) -> None:
        first, second = open_journal(), open_journal()
        with first.lease(), pytest.raises(AlreadyRunning), second.lease():
            pass
        with second.lease():
            pass

    def test_what_people_ask_is_taken_in_order_and_once(
        self, open_journal: Callable[[], Journal], ask: Callable[[Request], None]
    ) -> None:
        journal = open_journal()
        with journal.lease():
            carry_out(journal, 0)
            ask(PAUSE)
            ask(RESUME)
            assert list(journal.take_requests()) == [PAUSE, RESUME]
            carry_out(journal, 1)
            ask(ABORT)
            assert list(journal.take_requests()) == [ABORT]
            carry_out(journal, 2)
            assert list(journal.take_requests()) == []

    def test_what_was_asked_while_nobody_drove_is_taken_by_the_next_runner(
        self, open_journal: Callable[[], Journal], ask: Callable[[Request], None]
    ) -> None:
        journal = open_journal()
        with journal.lease():
            carry_out(journal, 0)
        ask(ABORT)
        heir = open_journal()
        with heir.lease():
            assert list(heir.take_requests()) == [ABORT]

    def test_a_request_that_no_saved_state_holds_is_given_to_the_next_runner(
        self, open_journal: Callable[[], Journal], ask: Callable[[Request], None]
    ) -> None:
        killed = open_journal()
        with killed.lease():
            carry_out(killed, 0)
            ask(PAUSE)
            assert list(killed.take_requests()) == [PAUSE]
        heir = open_journal()
        with heir.lease():
            assert list(heir.take_requests()) == [PAUSE]

    def test_a_request_that_was_obeyed_is_not_given_to_the_next_runner_but_one(
        self, open_journal: Callable[[], Journal], ask: Callable[[Request], None]
    ) -> None:
        """A journal may give it once more: the state knows the last ones."""
        journal = open_journal()
        with journal.lease():
            carry_out(journal, 0)
            ask(PAUSE)
            for number in (1, 2):
                journal.take_requests()
                carry_out(journal, number)
        heir = open_journal()
        with heir.lease():
            assert list(heir.take_requests()) == []
