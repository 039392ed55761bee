"""Which rollouts a cluster has, who may begin one, and how one is found that nobody drives."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from coalmine.cluster.kinds import CONFIG_MAP
from coalmine.cluster.lease import Leases
from coalmine.errors import AlreadyRunning, Conflict, NotFound
from coalmine.journals import cluster_store
from coalmine.journals.cluster_objects import labels, rollout_name
from coalmine.journals.journal import has_ended, read_about, read_plan
from coalmine.rollout.events import EventKind
from tests.contracts.journal import ABORT, PAUSE, carry_out, saved
from tests.journals.cluster_place import FAKE, MODEL, QUICK, Machine, Place, awaited, told_in

LATER = dataclasses.replace(FAKE, version="1.2.0", started_at_s=FAKE.started_at_s + 600)
OTHER = dataclasses.replace(FAKE, model="credit-risk")


def end(machine: Machine, number: int = 0) -> None:
    """The runner's last tick."""
    ended = saved(number)
    ended["outbox"]["events"][0]["kind"] = EventKind.PROMOTED.value
    with (journal := machine.journal(FAKE)).lease():
        journal.save(ended)
        journal.append_event(ended["outbox"]["events"][0])


def undriven(machine: Machine) -> list[Path]:
    return list(machine.rollouts.undriven())


# --- finding ---------------------------------------------------------------------------


def test_a_published_rollout_is_known_to_every_machine_with_its_plan(published: Place) -> None:
    first, other = published.machines[0], published.machine()
    assert other.rollouts.at_hand(MODEL) == [other.folder(FAKE)]
    assert read_about(other.folder(FAKE)) == FAKE.about
    assert read_plan(other.folder(FAKE)) == read_plan(first.folder(FAKE))
    assert other.rollouts.at_hand("credit-risk") == []


def test_a_rollout_waits_for_a_runner_from_its_publication_to_its_end_unless_it_is_driven(
    published: Place,
) -> None:
    runner, driver = published.machine(), published.machine()
    looking = runner.rollouts
    assert list(looking.undriven()) == [runner.folder(FAKE)]
    with (journal := driver.journal(FAKE)).lease():
        carry_out(journal, 0)
        assert list(looking.undriven()) == []
        assert looking.is_driven(runner.folder(FAKE))
    assert list(looking.undriven()) == [runner.folder(FAKE)]
    assert not looking.is_driven(runner.folder(FAKE))
    end(driver, 1)
    assert all(has_ended(folder) for folder in looking.undriven())
    assert looking.at_hand(MODEL) == []


def test_one_whose_runner_died_is_found_when_its_lease_is_over_with_all_that_was_told(
    published: Place,
) -> None:
    runner, killed = published.machine(), published.machine()
    looking = runner.rollouts
    with (journal := killed.journal(FAKE)).lease():
        carry_out(journal, 0)
        carry_out(journal, 1)
        killed.cluster.down = True  # as one that was killed, it gives nothing back
    died_s = time.monotonic()
    assert list(looking.undriven()) == []
    while not list(looking.undriven()):
        time.sleep(0.01)
    assert time.monotonic() - died_s < QUICK.lasts_s + 0.2
    assert told_in(runner.folder(FAKE)) == ([0, 1], [0, 1])


def test_one_that_is_looked_for_while_it_is_published_is_found_a_look_later(published: Place) -> None:
    machine, runner = published.machine(), published.machine()
    end(machine)
    looking = runner.rollouts
    Leases(machine.cluster, QUICK).declare(rollout_name(MODEL), labels(MODEL, LATER.about.id))  # comes first
    assert list(looking.undriven()) == []
    machine.publish(LATER)
    assert list(looking.undriven()) == [runner.folder(LATER)]


def test_a_runner_asks_one_request_a_second_for_all_the_models_that_are_at_rest(published: Place) -> None:
    published.machines[0].publish(OTHER)
    runner = published.machine()
    looking = runner.rollouts
    assert sorted(looking.undriven()) == sorted([runner.folder(FAKE), runner.folder(OTHER)])
    runner.cluster.asked.clear()
    for _ in range(3):
        assert len(list(looking.undriven())) == 2
    assert [method for method, _, _ in runner.cluster.asked] == ["LIST"] * 3


def test_a_newcomer_takes_a_lease_by_the_clocks_only_where_they_cannot_be_wrong(published: Place) -> None:
    killed, heir = published.machine(), published.machine()
    with killed.journal(FAKE).lease():
        killed.cluster.down = True
    lease = published.server.objects["Lease", rollout_name(MODEL)]
    lease["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    began_s = time.monotonic()
    with heir.journal(FAKE).lease():
        pass
    assert time.monotonic() - began_s < QUICK.lasts_s


# --- beginning -------------------------------------------------------------------------


def test_the_next_rollout_takes_the_place_of_one_that_has_ended_and_nothing_of_that_stays(
    published: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_store, "SEGMENT_BYTES", 100)
    machine = published.machine()
    with (journal := machine.journal(FAKE)).lease():
        for number in range(10):
            carry_out(journal, number)
    machine.rollouts.ask(machine.folder(FAKE), ABORT)
    end(machine, 10)
    assert any("ticks" in name for name in published.server.names(CONFIG_MAP))
    machine.publish(LATER)
    assert published.server.names(CONFIG_MAP) == {rollout_name(MODEL), f"{MODEL}-asks"}
    with (journal := published.machine().journal(LATER)).lease():
        assert journal.load() is None
        assert list(journal.take_requests()) == []


def test_one_that_has_ended_gives_way_whatever_the_clock_of_the_next_machine_says(published: Place) -> None:
    end(published.machine())
    by_a_slow_clock = dataclasses.replace(FAKE, started_at_s=FAKE.started_at_s - 600)
    published.machine().publish(by_a_slow_clock)
    reader = published.machine()
    assert reader.rollouts.at_hand(MODEL) == [reader.folder(by_a_slow_clock)]


def test_the_end_stays_to_be_seen_until_the_next_rollout_begins(published: Place) -> None:
    end(published.machine())
    reader = published.machine()
    reader.rollouts.refresh(MODEL)
    assert has_ended(reader.folder(FAKE))
    assert reader.rollouts.at_hand(MODEL) == []


def test_a_rollout_is_published_once_however_often_it_is_said(published: Place) -> None:
    machine = published.machine()
    with (journal := machine.journal(FAKE)).lease():
        carry_out(journal, 0)
    published.machine().publish(FAKE)
    assert published.machine().journal(FAKE).load() == saved(0)


def test_no_rollout_begins_where_another_one_is_driven(published: Place) -> None:
    with (
        published.machine().journal(FAKE).lease(),
        pytest.raises(AlreadyRunning, match=FAKE.about.id),
    ):
        published.machine().publish(LATER)


def test_one_that_nobody_drives_gives_way_to_what_came_later_and_not_to_what_came_before(
    place: Place,
) -> None:
    place.machine().publish(LATER)
    with pytest.raises(Conflict, match=f"{LATER.about.id} .* has not ended"):
        place.machine().publish(FAKE)
    latest = dataclasses.replace(LATER, started_at_s=LATER.started_at_s + 600)
    place.machine().publish(latest)
    reader = place.machine()
    assert reader.rollouts.at_hand(MODEL) == [reader.folder(latest)]


def test_a_rollout_whose_place_was_taken_is_over_on_every_machine(published: Place) -> None:
    late = published.machine()
    with (journal := late.journal(FAKE)).lease():
        carry_out(journal, 0)
    published.machine().publish(LATER)
    with pytest.raises(Conflict, match=f"{FAKE.about.id} of {MODEL} is over"), late.journal(FAKE).lease():
        pass
    with pytest.raises(NotFound):
        late.rollouts.ask(late.folder(FAKE), PAUSE)
    assert late.rollouts.at_hand(MODEL) == [late.folder(LATER)]


# --- what else is shared ---------------------------------------------------------------


def test_each_notice_is_begun_by_one_machine_only(published: Place) -> None:
    line = {"sequence": 3, "hook": "abc", "outcome": "sending"}
    one, two = (
        machine.rollouts.notices(machine.folder(FAKE))
        for machine in (published.machine(), published.machine())
    )
    assert one.add(line, once=("sequence", "hook"))
    assert not two.add(line, once=("sequence", "hook"))
    assert two.add({**line, "hook": "def"}, once=("sequence", "hook"))
    assert [each["hook"] for each in one.read()] == ["abc", "def"]


def test_who_is_late_with_the_notices_of_a_rollout_that_is_over_loses_none_of_the_next(
    published: Place,
) -> None:
    late, machine = published.machine(), published.machine()
    line = {"sequence": 0, "hook": "abc", "outcome": "sending"}
    notices = machine.rollouts.notices(machine.publish(LATER))
    notices.add(line)
    with pytest.raises(NotFound, match=f"{FAKE.about.id} of {MODEL} is over"):
        late.rollouts.notices(late.folder(FAKE)).add(line)
    assert notices.read() == [line]


def test_what_stopped_a_runner_is_read_by_who_follows_on_another_machine(published: Place) -> None:
    runner, follower = published.machine(), published.machine()
    with (journal := runner.journal(FAKE)).lease():
        carry_out(journal, 0)
        runner.rollouts.leave(runner.folder(FAKE), "trouble.json", json.dumps({"kind": "PushRejected"}))
        carry_out(journal, 1)
    follower.journal(FAKE).load()
    assert json.loads((follower.folder(FAKE) / "trouble.json").read_text()) == {"kind": "PushRejected"}


def test_one_runner_service_at_a_time_and_a_killed_one_is_waited_for(place: Place) -> None:
    service, second = place.machine(), place.machine()
    looking = place.machine()
    assert not looking.rollouts.runner.is_held()
    with service.rollouts.runner.held("Kim"):
        assert looking.rollouts.runner.is_held()
        refused = pytest.raises(
            AlreadyRunning, match=r"runner service of production is already running \(started by Kim"
        )
        with refused, second.rollouts.runner.held("Ada"):
            pass
        service.cluster.down = True
    with place.machine().rollouts.runner.held("Ada"):
        assert looking.rollouts.runner.is_held()
    assert not looking.rollouts.runner.is_held()


def test_a_follower_looks_for_the_service_as_often_as_that_renews_its_lease(place: Place) -> None:
    follower = place.machine()
    runner = follower.rollouts.runner
    with place.machine().rollouts.runner.held("Kim"):
        began_s = time.monotonic()
        while time.monotonic() - began_s < 4 * QUICK.renewed_every_s:
            assert runner.is_held()
        assert len(follower.cluster.asked) <= 5
    awaited(lambda: not runner.is_held(), "the service has ended")
