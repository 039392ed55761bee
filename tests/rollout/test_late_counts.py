"""Rollouts whose counts come by scrapes, of each arm at a moment of its own."""

from __future__ import annotations

import pytest

from coalmine.rollout.state import Phase
from coalmine.slots import Slot
from tests.rollout.stories import plan, upgrade
from tests.simulators.scraped import ScrapedTelemetry
from tests.simulators.world import World


def scraped_world(every_s: float = 15.0, apart_s: float = 7.0) -> World:
    """apart_s: from a scrape of stable, blue, to the candidate's."""
    world = World()
    first_s = max(0.0, -apart_s) + 1.0
    world.telemetry = ScrapedTelemetry(world, every_s, {Slot.BLUE: first_s, Slot.GREEN: first_s + apart_s})
    return world


@pytest.mark.parametrize("apart_s", [-14.5, -7.0, 0.5, 7.0, 14.5])
@pytest.mark.parametrize("every_s", [15.0, 30.0])
def test_a_good_candidate_is_promoted(every_s: float, apart_s: float) -> None:
    world = scraped_world(every_s, apart_s)
    ended = upgrade(world, plan())
    assert ended.phase is Phase.PROMOTED, ended.reason
    assert world.router.history == [5, 25, 50, 100]
    assert not any("do not come by" in event["sentence"] for event in world.journal.events)
    assert not any("No requests reach" in event["sentence"] for event in world.journal.events)


@pytest.mark.parametrize("failing", [0.05, 0.3])
def test_a_failing_candidate_is_rolled_back(failing: float) -> None:
    world = scraped_world()
    world.behaviour[Slot.GREEN].failing = failing
    ended = upgrade(world, plan())
    assert ended.phase is Phase.ROLLED_BACK
    assert "failed" in ended.reason
    assert world.router.history == [5, 0]


def test_requests_that_do_not_come_by_the_weight_are_known_all_the_same() -> None:
    world = scraped_world()
    world.telemetry.leaking = 0.9
    ended = upgrade(world, plan())
    assert ended.phase is Phase.ROLLED_BACK
    assert "cannot be counted" in ended.reason


@pytest.mark.parametrize("apart_s", [-14.0, -7.0, 7.0])
def test_a_fault_that_begins_in_the_bake_is_seen_before_it_is_over(apart_s: float) -> None:
    world = scraped_world(apart_s=apart_s)

    def fail_late_in_the_bake() -> None:
        if world.router.history[-1:] == [100]:
            world.at(world.now - 1_000_000 + 12, lambda: setattr(world.behaviour[Slot.GREEN], "failing", 0.3))

    for second in range(0, 1200, 2):
        world.at(second, fail_late_in_the_bake)
    assert upgrade(world, plan()).phase is Phase.ROLLED_BACK
