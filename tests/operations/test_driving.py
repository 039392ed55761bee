"""Following the runner service: until the end, until its errors, or until it is gone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from coalmine.errors import AlreadyRunning, CoalmineError, PushRejected
from coalmine.journals.rollouts import LocalRollouts
from coalmine.journals.runner_lock import RunnerLock
from coalmine.operations.driving import Trouble, alone, driving, write_trouble
from coalmine.rollout.runner import Ports
from coalmine.rollout.state import Phase, RolloutState
from coalmine.slots import Slot
from tests.simulators.world import World

UNDER_WAY = RolloutState.begin(Slot.GREEN, has_stable=True, now_s=0)
ENDED = replace(UNDER_WAY, phase=Phase.PROMOTED, reason="every gate passed")


def never(_: Ports) -> RolloutState:
    raise AssertionError("this process was to follow")


@pytest.fixture
def rollouts(tmp_path: Path) -> LocalRollouts:
    return LocalRollouts(tmp_path, "local")


@pytest.fixture
def lock(rollouts: LocalRollouts) -> RunnerLock:
    return rollouts.runner


def test_without_a_service_a_delivery_drives_its_rollout_itself(
    tmp_path: Path, rollouts: LocalRollouts, lock: RunnerLock
) -> None:
    assert not lock.is_held()
    assert driving(rollouts, tmp_path) is alone
    with lock.held("Kim"):
        assert lock.is_held()
        with pytest.raises(AlreadyRunning, match="The runner service of local is already running: process"):
            lock.held("Ada").__enter__()
    assert not lock.is_held()
    assert driving(rollouts, tmp_path) is alone


def test_those_who_look_whether_a_service_is_there_refuse_nobody(lock: RunnerLock) -> None:
    with lock.held("Kim"):
        assert [lock.is_held() for _ in range(3)] == [True] * 3
    for _ in range(20):
        assert not lock.is_held()
        with lock.held("Kim"):
            pass


def test_a_delivery_follows_to_the_end(tmp_path: Path, rollouts: LocalRollouts, lock: RunnerLock) -> None:
    world = World()
    world.journal.state = {"state": UNDER_WAY.to_json()}

    def end() -> None:
        world.journal.state = {"state": ENDED.to_json()}

    world.at(60, end)
    with lock.held("Kim"):
        assert driving(rollouts, tmp_path)(world.ports(), never) == ENDED
    assert world.now >= 1_000_060


@pytest.mark.parametrize(
    ("kind", "expected"), [("PushRejected", PushRejected), ("ZeroDivisionError", CoalmineError)]
)
def test_what_the_service_meets_is_raised_here_unless_it_is_old_news(
    tmp_path: Path, rollouts: LocalRollouts, lock: RunnerLock, kind: str, expected: type[CoalmineError]
) -> None:
    world = World()
    write_trouble(rollouts, tmp_path, Trouble(kind, "an older one", time.time() - 60))
    world.at(10, lambda: write_trouble(rollouts, tmp_path, Trouble(kind, "it went wrong", time.time())))
    with lock.held("Kim"), pytest.raises(expected, match="it went wrong") as raised:
        driving(rollouts, tmp_path)(world.ports(), never)
    assert raised.type is expected
    assert world.now >= 1_000_010


def test_a_delivery_goes_on_by_itself_when_the_service_is_gone(
    tmp_path: Path, rollouts: LocalRollouts, lock: RunnerLock
) -> None:
    world = World()
    held = lock.held("Kim")
    held.__enter__()
    world.at(30, lambda: held.__exit__(None, None, None) and None)
    refused = iter([AlreadyRunning("it is just ending")])

    def act(_: Ports) -> RolloutState:
        for error in refused:
            raise error
        return ENDED

    assert driving(rollouts, tmp_path)(world.ports(), act) == ENDED
    assert world.now >= 1_000_030
