"""The real runner and gates on simulated traffic: the state is on a cluster, the runners are anywhere."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from coalmine.audit.story import read_story
from coalmine.errors import AlreadyRunning
from coalmine.journals.journal import read_events, read_ticks
from coalmine.rollout.ports import Ask, Journal, Request, TrafficSplit
from coalmine.rollout.replay import replay
from coalmine.rollout.runner import run
from coalmine.rollout.state import Phase, RolloutState
from coalmine.slots import Slot
from tests.journals.cluster_place import FAKE, MODEL, Machine, Place
from tests.rollout.stories import BEFORE_S, plan
from tests.simulators.world import SimulatedClock, World, upgrade_slots

PLAN = plan(stages=[10, 50], bake_s=4, poll_s=2)


class Killed(BaseException):
    """SIGKILL, as far as a test can have it."""


@pytest.fixture
def world() -> World:
    return a_world()


def a_world(failing: float = 0.0) -> World:
    world = World(seed=1)
    world.behaviour[Slot.GREEN].failing = failing
    world.router.split = TrafficSplit.all_to(Slot.BLUE)
    world.pass_time(BEFORE_S)
    return world


def drive(world: World, journal: Journal) -> RolloutState:
    return run(PLAN, upgrade_slots(), dataclasses.replace(world.ports(), journal=journal), asked_by="Kim")


def drive_to_the_end(world: World, place: Place) -> RolloutState:
    """By a machine after the other, as soon as the lease of the one before is over."""
    for _ in range(10_000):
        machine = place.machine()
        try:
            return drive(world, machine.journal(FAKE))
        except AlreadyRunning:
            time.sleep(0.01)
        except Killed:
            machine.cluster.down = True
    raise AssertionError("the rollout never ended")


def told(world: World, ended: RolloutState, place: Place) -> dict[str, Any]:
    """What must not depend on who drove it; and that any machine can show each decision."""
    reader = place.machine()
    reader.rollouts.refresh(MODEL)
    folder = reader.folder(FAKE)
    ticks, events = read_ticks(folder), read_events(folder)
    assert [tick.sequence for tick in ticks] == list(range(len(ticks)))
    assert [event.sequence for event in events] == list(range(len(events)))
    steps = list(replay(PLAN, ticks))
    assert [event for step in steps for event in step.decision.events] == events
    assert steps[-1].decision.state == ended
    return {
        "phase": ended.phase,
        "weights": world.router.history,
        "split": world.router.split,
        "records": len(world.record.outcomes),
        "events": [event.kind for event in events if event.kind not in ("held", "measured_again")],
    }


def undisturbed(tmp_place: Place, failing: float) -> dict[str, Any]:
    world = a_world(failing)
    return told(world, drive(world, tmp_place.machine().journal(FAKE)), tmp_place)


@pytest.fixture
def expected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    place.machine().publish(FAKE)
    return undisturbed(place, request.param)


GOOD_AND_BAD = pytest.mark.parametrize(
    ("failing", "expected"), [(0.0, 0.0), (0.3, 0.3)], indirect=["expected"], ids=["good", "bad"]
)


@GOOD_AND_BAD
def test_killed_at_every_single_tick_and_driven_on_by_another_machine_it_ends_the_same(
    published: Place, failing: float, expected: dict[str, Any]
) -> None:
    world = a_world(failing)
    sleep, slept = world.clock.sleep, 0

    def deadly(seconds: float) -> None:
        nonlocal slept
        sleep(seconds)
        slept += 1
        if slept % 2 == 0:  # a runner sees two readings at least, or nobody would ever measure anything
            published.machines[-1].cluster.down = True  # it gives nothing back
            raise Killed

    world.clock.sleep = deadly  # type: ignore[method-assign]
    assert told(world, drive_to_the_end(world, published), published) == expected
    assert slept >= 3


@pytest.mark.slow
@GOOD_AND_BAD
def test_killed_at_any_request_to_the_cluster_and_driven_on_by_another_machine_it_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory, failing: float, expected: dict[str, Any]
) -> None:
    for deadly in range(1, 1000):
        place = Place(tmp_path_factory.mktemp("killed"))
        place.machine().publish(FAKE)
        world, machine = a_world(failing), place.machine()
        asked = dying_at(machine, deadly)
        try:
            ended = drive(world, machine.journal(FAKE))
        except Killed:
            ended = drive_to_the_end(world, place)
        assert told(world, ended, place) == expected, f"killed at request {deadly}"
        if asked() < deadly:
            assert deadly > 14, "the kills must have reached every tick"
            return
    pytest.fail("no run was long enough to be killed nowhere")


def dying_at(machine: Machine, deadly: int) -> Callable[[], int]:
    """The `deadly`-th request of the runner ends it, before or after it took effect."""
    count = 0
    runner = threading.current_thread()
    request = machine.cluster.request

    def dying(*arguments: Any) -> Any:
        nonlocal count
        if threading.current_thread() is not runner:
            return request(*arguments)  # the lease is renewed beside it
        count += 1
        if count != deadly:
            return request(*arguments)
        if deadly % 2:
            request(*arguments)
        machine.cluster.down = True
        raise Killed

    machine.cluster.request = dying  # type: ignore[method-assign]
    return lambda: count


@GOOD_AND_BAD
@pytest.mark.parametrize("since_s", range(3, 24, 4))
def test_a_cluster_that_is_away_for_a_minute_holds_the_rollout_and_it_ends_the_same(
    published: Place, failing: float, expected: dict[str, Any], since_s: float
) -> None:
    world, machine = a_world(failing), published.machine()

    def go() -> None:
        machine.cluster.down = True
        world.at(world.now - 1_000_000 + 58, come_back)

    def come_back() -> None:
        machine.cluster.down = False

    world.at(BEFORE_S + since_s, go)
    ended = drive(world, machine.journal(FAKE))
    assert told(world, ended, published) == expected


def test_of_two_runners_one_moves_the_users_and_the_one_that_was_cut_off_moves_nobody_any_more(
    published: Place, world: World
) -> None:
    cut_off, heir = published.machine(), published.machine()
    moved_by: list[str] = []
    set_split = world.router.set_split

    def move(split: TrafficSplit) -> None:
        moved_by.append("heir" if world.clock is not clock else "cut off")
        set_split(split)

    clock = world.clock
    ended: list[RolloutState] = []

    def part() -> None:
        cut_off.cluster.down = True

    def take_over() -> None:
        """Within the first one's sleep: it wakes when all is over, and does not know."""
        world.clock = SimulatedClock(world)
        ended.append(drive_when_free(world, heir))
        world.clock = clock
        cut_off.cluster.down = False

    world.router.set_split = move  # type: ignore[method-assign]
    world.at(BEFORE_S + 8, part)
    world.at(BEFORE_S + 14, take_over)
    with pytest.raises(AlreadyRunning):
        drive(world, cut_off.journal(FAKE))
    assert ended[0].phase is Phase.PROMOTED
    assert moved_by == ["cut off", "heir", "heir"]
    told(world, ended[0], published)


def drive_when_free(world: World, machine: Machine) -> RolloutState:
    while True:
        try:
            return drive(world, machine.journal(FAKE))
        except AlreadyRunning:
            time.sleep(0.01)


def test_a_person_stops_it_from_another_machine(published: Place, world: World) -> None:
    person = published.machine()
    request = Request(Ask.ABORT, "Mia", world.now)
    world.at(BEFORE_S + 8, lambda: person.rollouts.ask(person.folder(FAKE), request))
    ended = drive(world, published.machine().journal(FAKE))
    assert (ended.phase, ended.reason) == (Phase.ROLLED_BACK, "aborted by Mia")
    person.rollouts.refresh(MODEL)
    assert read_story(person.folder(FAKE)).reason == "aborted by Mia."
