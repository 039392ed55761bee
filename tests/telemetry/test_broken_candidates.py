"""A candidate that hangs, crashes or refuses connections, through the real Envoy: every request that it
had is its own failure, whether a user waited for it or it was a copy, and stable's are untouched."""

from __future__ import annotations

import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from coalmine.local.stack import LocalStack
from coalmine.rollout.evidence import Arm
from coalmine.rollout.ports import TrafficRouter, TrafficSplit
from coalmine.slots import Slot
from coalmine.telemetry.scrape import ScrapeTelemetry
from tests.local.harness import User, eventually, kill, pid_of

REQUESTS = 40
HALF = TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50})
COPIED = TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=100)


@pytest.fixture
def hang(stack: LocalStack) -> Iterator[Callable[[], None]]:
    """Stops the candidate's process: its port still accepts connections, and nobody answers."""
    stopped: list[int] = []

    def stop() -> None:
        stopped.append(pid_of(stack, "m-green"))
        os.kill(stopped[0], signal.SIGSTOP)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def asked(stack: LocalStack, query: str = "") -> list[int]:
    """The statuses that users see who ask `REQUESTS` times, several at once."""
    statuses: list[int] = []

    def ask() -> None:
        user = User(stack)
        statuses.extend(user.ask(query)[0] for _ in range(REQUESTS // 8))
        user.close()

    users = [threading.Thread(target=ask) for _ in range(8)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    return statuses


def arms(telemetry: ScrapeTelemetry, ended: int) -> dict[Arm, tuple[int, int]]:
    """Requests and failures of both arms, copies included, once so many have ended."""

    def counted() -> dict[Arm, tuple[int, int]]:
        mirrored = telemetry.read(Slot.GREEN).mirrored
        assert mirrored is not None
        return {arm: (mirrored[arm].requests, mirrored[arm].failures) for arm in Arm}

    eventually(lambda: sum(requests for requests, _ in counted().values()) >= ended, "all have ended", 10)
    return counted()


def test_users_of_a_candidate_that_hangs_are_counted_as_its_failures(
    stack: LocalStack, router: TrafficRouter, telemetry: ScrapeTelemetry, hang: Callable[[], None]
) -> None:
    router.set_split(HALF)
    hang()
    statuses = asked(stack)
    counted = arms(telemetry, REQUESTS)
    had = statuses.count(504)
    assert 0 < had < REQUESTS
    assert counted == {Arm.CANDIDATE: (had, had), Arm.STABLE: (REQUESTS - had, 0)}


def test_copies_to_a_candidate_that_hangs_are_counted_as_its_failures(
    stack: LocalStack, router: TrafficRouter, telemetry: ScrapeTelemetry, hang: Callable[[], None]
) -> None:
    router.set_split(COPIED)
    hang()
    assert set(asked(stack)) == {200}
    counted = arms(telemetry, 2 * REQUESTS)
    assert counted == {Arm.CANDIDATE: (REQUESTS, REQUESTS), Arm.STABLE: (REQUESTS, 0)}


def test_requests_that_a_crash_cuts_off_are_counted_as_the_candidates_failures(
    stack: LocalStack, router: TrafficRouter, telemetry: ScrapeTelemetry
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    seen: list[int] = []
    users = [User(stack) for _ in range(8)]
    waiting = [threading.Thread(target=lambda user=user: seen.append(user.ask("slow")[0])) for user in users]
    for thread in waiting:
        thread.start()
    eventually(lambda: _in_flight(stack) == 8, "the candidate has all of them")
    kill(pid_of(stack, "m-green"))
    for thread in waiting:
        thread.join()
    for user in users:
        user.close()
    assert seen == [503] * 8
    assert arms(telemetry, 8) == {Arm.CANDIDATE: (8, 8), Arm.STABLE: (0, 0)}


@pytest.mark.parametrize("split", [HALF, COPIED], ids=["users", "copies"])
def test_a_candidate_that_refuses_connections_fails_all_that_it_was_sent(
    stack: LocalStack, router: TrafficRouter, telemetry: ScrapeTelemetry, split: TrafficSplit
) -> None:
    router.set_split(split)
    stack.stop("m-green")
    statuses = asked(stack)
    had = REQUESTS if split is COPIED else statuses.count(503)
    assert had > 0
    served = REQUESTS if split is COPIED else REQUESTS - had
    assert arms(telemetry, had + served) == {Arm.CANDIDATE: (had, had), Arm.STABLE: (served, 0)}


def _in_flight(stack: LocalStack) -> int:
    url = f"http://{stack.admin_address}/stats?filter=^cluster.m-green.upstream_rq_active$"
    with urllib.request.urlopen(url) as answer:
        return int(answer.read().decode().partition(":")[2])
