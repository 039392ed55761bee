"""Leases that nobody loses to a clock, and nobody keeps after their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from coalmine.cluster.kinds import LEASE
from coalmine.cluster.lease import Held, Lease, Leases, Terms, new_identity
from coalmine.errors import AlreadyRunning
from tests.simulators.api_server import StateClient, StateServer

NAME = "delay-rollout"
TERMS = Terms(lasts_s=0.4, renewed_every_s=0.1, look_every_s=0.02)


@pytest.fixture
def server() -> StateServer:
    return StateServer()


def leases(server: StateServer) -> Leases:
    """As another machine sees them."""
    return Leases(server.client(), TERMS)


def held(of: Leases) -> AbstractContextManager[Held]:
    return of.held(NAME, new_identity("a test"), {}, lambda lease: f"It is held by {lease.held_by}")


def look(of: Leases) -> Lease:
    lease = of.look(NAME)
    assert lease is not None
    return lease


@contextmanager
def renewed_by_a_clock(server: StateServer, ahead_by_s: float) -> Iterator[Callable[[], None]]:
    """A holder on a machine whose clock is ahead of ours, or behind; the function kills it."""
    client, dying = server.client(), threading.Event()
    body = {"metadata": {"name": NAME}, "spec": {"holderIdentity": "elsewhere/1/a test/0"}}
    client.create(LEASE, body)

    def renew() -> None:
        while not dying.wait(TERMS.renewed_every_s):
            now = datetime.now(UTC) + timedelta(seconds=ahead_by_s)
            client.merge(LEASE, NAME, {"spec": {"renewTime": now.isoformat()}})

    thread = threading.Thread(target=renew)
    thread.start()
    time.sleep(2 * TERMS.renewed_every_s)
    try:
        yield dying.set
    finally:
        dying.set()
        thread.join()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ahead_by_s", [-20.0, -2.0, 0.0, 20.0, 3600.0])
def test_a_living_holder_is_not_robbed_whatever_its_clock_says(
    server: StateServer, ahead_by_s: float
) -> None:
    with renewed_by_a_clock(server, ahead_by_s):
        mine = leases(server)
        for _ in range(3):
            with pytest.raises(AlreadyRunning, match="held by a test, process 1 on elsewhere"), held(mine):
                pass
        assert look(mine).is_held(TERMS)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ahead_by_s", [-20.0, 0.0, 20.0, 3600.0])
def test_a_dead_holder_is_waited_for_until_its_lease_is_over_whatever_its_clock_said(
    server: StateServer, ahead_by_s: float
) -> None:
    with renewed_by_a_clock(server, ahead_by_s) as kill:
        mine = leases(server)
        look(mine)
        kill()
        killed_s = time.monotonic()
        while True:
            try:
                with held(mine):
                    took_s = time.monotonic() - killed_s
                break
            except AlreadyRunning:
                time.sleep(0.01)
    assert TERMS.lasts_s - TERMS.renewed_every_s - 0.05 < took_s < TERMS.lasts_s + 0.3


def test_who_looked_long_ago_does_not_take_a_change_since_then_for_a_sign_of_life(
    server: StateServer,
) -> None:
    with renewed_by_a_clock(server, 0.0) as kill:
        mine = leases(server)
        look(mine)
        time.sleep(2 * TERMS.renewed_every_s)
        kill()
        time.sleep(TERMS.lasts_s)
        assert not look(mine).is_held(TERMS)


def test_a_lease_that_another_one_has_is_lost_for_good_and_left_to_it(server: StateServer) -> None:
    slow, quick = leases(server), leases(server)
    with held(slow) as mine:
        away = slow_down(mine)
        time.sleep(TERMS.lasts_s)
        while True:
            try:
                with held(quick) as theirs:
                    away.down = False
                    while not lost(mine):
                        time.sleep(0.01)
                    mine.give_back()
                    mine.renew()
                    assert look(quick).holder == theirs.identity
                    theirs.require()
                break
            except AlreadyRunning:
                time.sleep(0.01)
    assert look(quick).holder == ""


def slow_down(mine: Held) -> StateClient:
    client = mine._cluster
    assert isinstance(client, StateClient)
    client.down = True
    return client


def lost(mine: Held) -> bool:
    try:
        mine.require()
    except AlreadyRunning:
        return True
    return False


def test_what_was_given_back_is_not_renewed_by_a_thread_that_comes_late(server: StateServer) -> None:
    mine = leases(server)
    with held(mine) as late:
        pass
    late.renew()
    assert look(mine).holder == ""
    with held(leases(server)):
        pass
