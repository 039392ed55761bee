"""A journal that cannot save for a while: nobody is moved, nothing is lost, and the rollout goes on after."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from coalmine.errors import JournalUnavailable
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, TrafficSplit
from coalmine.rollout.state import Phase
from tests.rollout.stories import BEFORE_S, ask, plan, upgrade, weight
from tests.rollout.test_kills import assert_sequences, told
from tests.rollout.test_scenarios import assert_replays
from tests.simulators.world import World

QUICK = {"stages": [10, 50], "bake_s": 4, "poll_s": 2}


class Away:
    """Saving fails from `since_s` for `for_s` seconds of the world."""

    def __init__(self, world: World, since_s: float, for_s: float) -> None:
        self._save, self._world = world.journal.save, world
        self.from_s = world.now + BEFORE_S + since_s
        self.until_s = self.from_s + for_s
        self.failed = 0
        world.journal.save = self.save  # type: ignore[method-assign]

    def save(self, state: Mapping[str, object]) -> None:
        if not self.from_s <= self._world.now < self.until_s:
            self._save(state)
            return
        self.failed += 1
        raise JournalUnavailable("the simulated API server is away")


def moments_of_moves(world: World) -> list[float]:
    moments: list[float] = []
    set_split = world.router.set_split

    def noted(split: TrafficSplit) -> None:
        moments.append(world.now)
        set_split(split)

    world.router.set_split = noted  # type: ignore[method-assign]
    return moments


def good(_: World) -> Plan:
    return plan(**QUICK)


def bad(world: World) -> Plan:
    for arm in list(world.behaviour.values())[1:]:
        arm.failing = 0.3
    return plan(**QUICK)


@pytest.mark.parametrize("story", [good, bad], ids=lambda story: story.__name__)
@pytest.mark.parametrize("since_s", range(1, 60, 4))
def test_away_for_a_minute_at_any_moment_the_rollout_holds_and_ends_the_same(
    story: Callable[[World], Plan], since_s: float
) -> None:
    undisturbed, world = World(seed=1), World(seed=1)
    expected = told(undisturbed, upgrade(undisturbed, story(undisturbed)))
    its_plan = story(world)
    away = Away(world, since_s, 58)
    moved_at = moments_of_moves(world)
    ended = upgrade(world, its_plan)
    assert told(world, ended) == expected
    assert_sequences(world)
    assert_replays(its_plan, world)
    assert not [at_s for at_s in moved_at if away.from_s <= at_s < away.until_s]


@pytest.mark.parametrize("story", [good, bad], ids=lambda story: story.__name__)
def test_whichever_save_fails_the_rollout_ends_the_same(story: Callable[[World], Plan]) -> None:
    undisturbed = World(seed=1)
    expected = told(undisturbed, upgrade(undisturbed, story(undisturbed)))
    for failing in range(2, 1000):  # without the first, nothing has begun
        world = World(seed=1)
        its_plan = story(world)
        saves = failing_at(world, failing)
        assert told(world, upgrade(world, its_plan)) == expected, f"save {failing} failed"
        assert_sequences(world)
        assert_replays(its_plan, world)
        if saves() < failing:
            assert failing > 5, "every save must have failed once"
            return
    pytest.fail("no rollout was long enough to fail nowhere")


def failing_at(world: World, failing: int) -> Callable[[], int]:
    """The save of that number fails, and no other; says how many there were."""
    save, count = world.journal.save, 0

    def counted(state: Mapping[str, object]) -> None:
        nonlocal count
        count += 1
        if count == failing:
            raise JournalUnavailable("the simulated API server is away")
        save(state)

    world.journal.save = counted  # type: ignore[method-assign]
    return lambda: count


def test_a_request_that_came_with_an_unsaved_tick_is_not_lost() -> None:
    world = World(seed=1)
    away = Away(world, 7, 20)
    world.at(BEFORE_S + 12, lambda: ask(world, Ask.ABORT))
    ended = upgrade(world, plan(**QUICK))
    assert away.failed > 0
    assert (ended.phase, ended.reason) == (Phase.ROLLED_BACK, "aborted by Mia")
    assert weight(world) == 0


def test_away_for_longer_than_the_plan_does_without_measurements_ends_the_run_and_moves_nobody() -> None:
    world = World(seed=1)
    Away(world, 12, 10_000)
    with pytest.raises(JournalUnavailable):
        upgrade(world, plan(**QUICK, no_data_budget_s=60))
    assert 60 <= world.now - 1_000_000 - BEFORE_S - 12 <= 66
    assert weight(world) == 10
