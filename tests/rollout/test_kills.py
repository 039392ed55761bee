"""A runner killed anywhere, and another one that goes on: the same end, and no weight moved twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, TrafficSplit
from coalmine.rollout.state import RolloutState
from coalmine.slots import Slot
from tests.rollout.stories import ask, plan, upgrade
from tests.rollout.test_scenarios import assert_replays
from tests.simulators.world import SimulatedCheck, World

QUICK = {"stages": [10, 50], "bake_s": 4, "poll_s": 2}
HOOK = {"gate": "webhook", "name": "hook", "url": "http://hook.test/"}
PORTS = {
    "router": ("set_split", "observed_split"),
    "telemetry": ("read",),
    "reconciler": ("reconcile", "status"),
    "journal": ("load", "save", "append_event", "append_tick", "take_requests"),
    "record": ("promote", "reject"),
}


class Killed(BaseException):
    """SIGKILL, as far as a test can have it."""


def good(_: World) -> Plan:
    return plan(**QUICK)


def bad(world: World) -> Plan:
    for arm in list(world.behaviour.values())[1:]:
        arm.failing = 0.3
    return plan(**QUICK)


def shadowed_checked_and_approved(world: World) -> Plan:
    world.checks["hook"] = SimulatedCheck()
    for second in range(30, 200):  # asked again and again: refused before it is waited for, and after
        world.at(second, lambda: ask(world, Ask.APPROVE))
    return plan(HOOK, {"gate": "approval"}, shadow={"percent": 100}, stages=[50], bake_s=4)


def paused_and_resumed(world: World) -> Plan:
    world.at(36, lambda: ask(world, Ask.PAUSE))
    world.at(44, lambda: ask(world, Ask.RESUME))
    return plan(stages=[50], bake_s=4)


STORIES = [good, bad, shadowed_checked_and_approved, paused_and_resumed]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_killed_at_any_call_of_any_port_the_rollout_ends_the_same(story: Callable[[World], Plan]) -> None:
    undisturbed = World(seed=1)
    expected = told(undisturbed, upgrade(undisturbed, story(undisturbed)))
    for deadly in range(1, 5000):
        world = World(seed=1)
        its_plan = story(world)
        calls = dying_at(world, deadly)
        try:
            ended = upgrade(world, its_plan)
        except Killed:
            world.journal.held = False  # the lease dies with its holder
            ended = upgrade(world, its_plan)
        assert told(world, ended) == expected, f"killed at call {deadly}"
        assert_sequences(world)
        assert_replays(its_plan, world)
        if next(calls) < deadly:
            assert deadly > 40, "the kills must have reached every step"
            return
    pytest.fail("no run was long enough to be killed nowhere")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_killed_at_every_single_tick_the_rollout_ends_the_same(story: Callable[[World], Plan]) -> None:
    undisturbed, world = World(seed=1), World(seed=1)
    expected = told(undisturbed, upgrade(undisturbed, story(undisturbed)))
    its_plan = story(world)
    kill_in_every_second_sleep(world)
    for _ in range(1000):
        try:
            ended = upgrade(world, its_plan)
        except Killed:
            world.journal.held = False
        else:
            assert told(world, ended) == expected
            assert_sequences(world)
            assert_replays(its_plan, world)
            return
    pytest.fail("the rollout never ended")


def test_what_happened_while_no_runner_was_there_is_not_counted() -> None:
    world = World(seed=1)
    kill_in_every_second_sleep(world)
    while not world.journal.polls:
        with pytest.raises(Killed):
            upgrade(world, plan(**QUICK))
        world.journal.held = False
    counted = len(world.journal.polls)
    split = world.router.split
    world.router.split = TrafficSplit.canary(Slot.GREEN, 90)
    world.pass_time(40)
    world.router.split = split
    with pytest.raises(Killed):
        upgrade(world, plan(**QUICK))
    for poll in world.journal.polls[counted:]:
        assert poll["candidate"]["requests"] < 10 * world.requests_per_s


def told(world: World, ended: RolloutState) -> dict[str, Any]:
    """What must not depend on a kill."""
    return {
        "phase": ended.phase,
        "weights": world.router.history,
        "split": world.router.split,
        "records": len(world.record.outcomes),
        "stages": [
            kind for kind in world.journal.story() if kind not in ("held", "measured_again", "ask_refused")
        ],
    }


def assert_sequences(world: World) -> None:
    for lines in (world.journal.events, world.journal.ticks, world.journal.polls):
        assert [line["sequence"] for line in lines] == list(range(len(lines)))


def dying_at(world: World, deadly: int) -> Iterator[int]:
    """The `deadly`-th call of any port ends the runner, before or after it took effect; yields the calls."""
    count = 0

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == deadly and deadly % 2 == 0:
                raise Killed
            result = call(*arguments)
            if count == deadly:
                raise Killed
            return result

        return wrapped

    for port, names in PORTS.items():
        for name in names:
            setattr(getattr(world, port), name, dying(getattr(getattr(world, port), name)))

    def calls() -> Iterator[int]:
        while True:
            yield count

    return calls()


def kill_in_every_second_sleep(world: World) -> None:
    """A runner sees two readings at least, or nobody would ever measure anything."""
    sleep, slept = world.clock.sleep, 0

    def deadly(seconds: float) -> None:
        nonlocal slept
        sleep(seconds)
        slept += 1
        if slept % 2 == 0:
            raise Killed

    world.clock.sleep = deadly
