"""Many rollouts in one process: what one of them does is nothing to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from coalmine.rollout.fleet import Fleet, FleetClock, Halted


class Ticks:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self.late_s: list[float] = []

    def ticked(self, took_s: float, late_s: float) -> None:
        self.took_s.append(took_s)
        self.late_s.append(late_s)


def looking(fleet: Fleet, until: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline, "never came true"
        fleet.look()
        time.sleep(0.005)


def ignoring(name: str, error: Exception, again_in_s: float) -> None:
    """Whoever is told of failures and does nothing."""


def test_one_that_fails_stops_no_other_and_is_tried_again_after_growing_pauses() -> None:
    tried: list[float] = []
    told: list[tuple[str, str, float]] = []
    ended: set[str] = set()

    def drive(name: str, halting: threading.Event) -> None:
        if name == "bad":
            tried.append(time.monotonic())
            raise ZeroDivisionError("a mistake")
        halting.wait(0.2)
        ended.add(name)

    fleet = Fleet(
        find=lambda _: {"a", "b", "bad"} - ended,
        drive=drive,
        failed=lambda name, error, again_in_s: told.append((name, str(error), again_in_s)),
        first_pause_s=0.05,
        longest_pause_s=0.1,
    )
    looking(fleet, lambda: len(tried) == 4)
    assert ended == {"a", "b"}
    assert told[:3] == [("bad", "a mistake", pause) for pause in (0.05, 0.1, 0.1)]
    pauses = [after - before for before, after in pairwise(tried)]
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.1), strict=True))


def test_no_name_is_driven_twice_at_once() -> None:
    at_once = threading.Semaphore(1)
    driven = 0

    def drive(_: str, halting: threading.Event) -> None:
        nonlocal driven
        assert at_once.acquire(blocking=False)
        halting.wait(0.02)
        driven += 1
        at_once.release()

    failures: list[Exception] = []
    fleet = Fleet(find=lambda _: ["m"], drive=drive, failed=lambda *told: failures.append(told[1]))
    looking(fleet, lambda: driven >= 5)
    assert failures == []


def test_halting_ends_every_one_between_two_ticks_and_tells_of_no_failure() -> None:
    ticks = dict.fromkeys("abc", 0)
    whole = dict.fromkeys("abc", 0)
    watch = Ticks()

    def drive(name: str, halting: threading.Event) -> None:
        clock = FleetClock(halting, watch)
        while True:
            ticks[name] += 1
            time.sleep(0.01)
            whole[name] += 1
            clock.sleep(0.02)

    fleet = Fleet(find=lambda _: ticks, drive=drive, failed=ignoring)
    looking(fleet, lambda: min(ticks.values()) > 3)
    assert fleet.under_way == {"a", "b", "c"}
    assert fleet.halt(within_s=5)
    assert ticks == whole
    assert fleet.under_way == frozenset()
    assert len(watch.took_s) == sum(whole.values())


def test_halting_does_not_wait_for_one_that_hangs() -> None:
    hanging = threading.Event()
    fleet = Fleet(find=lambda _: ["m"], drive=lambda *_: hanging.wait(30), failed=ignoring)
    looking(fleet, lambda: fleet.under_way)
    started = time.monotonic()
    assert not fleet.halt(within_s=0.1)
    assert time.monotonic() - started < 5
    hanging.set()


class Hours(threading.Event):
    """An event that nobody sets; waiting for it passes simulated time, and so does `pass_s`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now_s = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, timeout: float | None = None) -> bool:
        self.pass_s(timeout or 0.0)
        return False


def test_polls_keep_their_rhythm_however_long_a_tick_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, hours = Ticks(), Hours(monkeypatch)
    clock, woke = FleetClock(hours, watch), []
    for tick_s in (0.25, 1.0, 0.0, 1.5):
        hours.pass_s(tick_s)
        clock.sleep(2.0)
        woke.append(hours.now_s)
    assert woke == [1002.0, 1004.0, 1006.0, 1008.0]
    assert watch.took_s == [0.25, 1.0, 0.0, 1.5]
    assert watch.late_s == [0.0] * 4


def test_what_a_long_tick_missed_is_not_caught_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, hours = Ticks(), Hours(monkeypatch)
    clock = FleetClock(hours, watch)
    hours.pass_s(7.0)  # a tick that took three polls
    clock.sleep(2.0)
    assert hours.now_s == 1007.0
    clock.sleep(2.0)
    assert hours.now_s == 1009.0


def test_a_clock_that_is_halted_raises_at_once() -> None:
    halting = threading.Event()
    halting.set()
    with pytest.raises(Halted):
        FleetClock(halting, Ticks()).sleep(60)
