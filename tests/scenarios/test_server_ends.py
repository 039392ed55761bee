"""A model server ends under users who never stop: what they lose, through Envoy."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.slots import Slot
from tests.scenarios.model_servers import ModelServers, model_servers
from tests.scenarios.steady_users import Counts, SteadyUsers, asking

PER_S = 100
BROKE_OFF = "reset reason: connection termination"
# A request takes a few milliseconds; this many at once is half a second of a machine that is busy.
MOST_IN_FLIGHT = 50

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[ModelServers]:
    """1.1.0 in blue, which nobody is sent to any more, and 1.2.0 in green."""
    with model_servers(tmp_path) as servers:
        for number in (1, 2):
            servers.take(number)
            servers.promote()
        yield servers


@pytest.fixture
def users(servers: ModelServers) -> Iterator[SteadyUsers]:
    with asking(servers.stack.address, PER_S) as users:
        yield users


def test_a_server_that_is_asked_to_end_loses_no_request(servers: ModelServers, users: SteadyUsers) -> None:
    for _ in range(3):
        servers.signal(Slot.GREEN, signal.SIGTERM)
        users.await_answers(PER_S)
    assert_nothing_lost(users.end())


def test_a_server_that_starts_again_with_other_options_loses_no_request(
    servers: ModelServers, users: SteadyUsers
) -> None:
    before = servers.server(Slot.GREEN).pid
    servers.options = ("--timeout-s", "9")
    servers.reconcile()
    assert servers.server(Slot.GREEN).pid != before
    users.await_answers(PER_S)
    assert_nothing_lost(users.end())


def test_a_killed_server_loses_what_it_had_begun_and_nothing_else(
    servers: ModelServers, users: SteadyUsers
) -> None:
    servers.signal(Slot.GREEN, signal.SIGKILL)
    users.await_answers(PER_S)
    counts = users.end()
    print(f"killed: {counts.failed} of {counts.asked} requests failed, {counts.latency_ms} ms")
    assert [what for what in counts.failures if BROKE_OFF not in what] == []
    assert counts.failed <= MOST_IN_FLIGHT
    assert (counts.good + counts.failed, counts.mixed) == (counts.asked, [])


def test_a_server_that_ends_in_one_slot_is_not_noticed_in_the_other(
    servers: ModelServers, users: SteadyUsers
) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        servers.signal(Slot.BLUE, number)
    assert_nothing_lost(users.end())


def assert_nothing_lost(counts: Counts) -> None:
    print(f"{counts.failed} of {counts.asked} requests failed, {counts.latency_ms} ms")
    assert (counts.failures, counts.mixed) == ({}, [])
    assert set(counts.answered) == {"1.2.0"}
    assert counts.good == counts.asked
