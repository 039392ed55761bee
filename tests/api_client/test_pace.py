"""How many requests a process makes at most."""

from __future__ import annotations

from dataclasses import dataclass, field

from coalmine.cluster.pace import Pace


@dataclass
class FakeTime:
    now_s: float = 0.0
    waits: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds

    def pace(self, per_s: float, at_once: int) -> Pace:
        return Pace(per_s, at_once, lambda: self.now_s, self.sleep)


def test_so_many_at_once_wait_for_nothing() -> None:
    time = FakeTime()
    pace = time.pace(per_s=10, at_once=5)
    for _ in range(5):
        pace.wait()
    assert time.waits == []
    assert pace.asked == 5


def test_more_than_that_come_at_the_rate() -> None:
    time = FakeTime()
    pace = time.pace(per_s=10, at_once=5)
    for _ in range(5 + 30):
        pace.wait()
    assert time.now_s == sum(time.waits)
    assert abs(time.now_s - 3.0) < 1e-9


def test_those_who_come_together_wait_one_after_the_other() -> None:
    time = FakeTime()
    waits: list[float] = []
    pace = Pace(10, 1, lambda: time.now_s, waits.append)  # nobody's waiting lets time pass for another
    for _ in range(4):
        pace.wait()
    assert [round(each, 9) for each in waits] == [0.1, 0.2, 0.3]


def test_a_pause_gives_the_next_ones_their_start_again_and_no_more() -> None:
    time = FakeTime()
    pace = time.pace(per_s=10, at_once=5)
    for _ in range(5):
        pace.wait()
    time.now_s += 1000
    for _ in range(6):
        pace.wait()
    assert len(time.waits) == 1
