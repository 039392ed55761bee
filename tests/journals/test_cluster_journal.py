"""A rollout's journal on a cluster: what the API server keeps, and what each machine makes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from coalmine.cluster.client import ClusterUnavailable
from coalmine.cluster.kinds import CONFIG_MAP, LEASE
from coalmine.errors import AlreadyRunning, IntegrityError, JournalUnavailable
from coalmine.journals import cluster_store
from coalmine.journals.cluster_objects import rollout_name
from coalmine.journals.cluster_store import ClusterStore
from coalmine.journals.working_copy import Copy
from coalmine.rollout.ports import Journal, Request
from tests.contracts.journal import PAUSE, JournalContract, carry_out, saved, tell
from tests.journals.cluster_place import FAKE, MODEL, QUICK, Machine, Place, awaited, told_in


class TestClusterJournal(JournalContract):
    """Each process on a machine of its own."""

    @pytest.fixture
    def open_journal(self, published: Place) -> Callable[[], Journal]:
        return lambda: published.machine().journal(FAKE)

    @pytest.fixture
    def ask(self, published: Place) -> Callable[[Request], None]:
        machine = published.machine()
        return lambda request: machine.rollouts.ask(machine.folder(FAKE), request)

    @pytest.fixture
    def told(self, published: Place) -> Callable[[], tuple[list[int], list[int]]]:
        def read() -> tuple[list[int], list[int]]:
            machine = published.machine()
            machine.rollouts.refresh(MODEL)
            return told_in(machine.folder(FAKE))

        return read


# --- what grows ------------------------------------------------------------------------


def test_a_long_rollout_lies_in_pieces_of_which_each_write_is_small_and_another_machine_has_it_whole(
    published: Place,
) -> None:
    machine = published.machine()
    journal = machine.journal(FAKE)
    with journal.lease():
        for number in range(200):
            state = saved(number)
            # What a gate saw is different each time, and so hardly smaller when it is packed.
            state["outbox"]["ticks"][0]["seen"] = [hash((number, n)) for n in range(40)]
            journal.save(state)
            journal.append_tick(state["outbox"]["ticks"][0])
            journal.append_event(state["outbox"]["events"][0])
    segments = {name for name in published.server.names(CONFIG_MAP) if "-rollout-ticks-" in name}
    assert segments == {f"{MODEL}-rollout-ticks-{n}" for n in range(len(segments))}
    assert len(segments) > 3
    assert max(size for _, _, size in machine.cluster.asked) < 50_000

    other = published.machine()
    other.rollouts.refresh(MODEL)
    for name in ("ticks.jsonl", "events.jsonl", "state.json", "about.json", "plan.json"):
        assert (other.folder(FAKE) / name).read_bytes() == (machine.folder(FAKE) / name).read_bytes()


def test_a_machine_that_follows_reads_only_what_it_lacks(
    published: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_store, "SEGMENT_BYTES", 300)
    journal, follower = published.machine().journal(FAKE), published.machine()
    with journal.lease():
        for number in range(30):
            carry_out(journal, number)
        follower.rollouts.refresh(MODEL)
        carry_out(journal, 30)
        follower.cluster.asked.clear()
        follower.rollouts.refresh(MODEL)
    assert len(follower.cluster.asked) <= 2
    assert told_in(follower.folder(FAKE)) == (list(range(31)), list(range(31)))


def test_a_runner_killed_while_it_moves_the_old_ticks_out_of_the_way_loses_none(
    published: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_store, "SEGMENT_BYTES", 300)
    for number in range(20):
        machine = published.machine()
        journal = machine.journal(FAKE)
        with journal.lease():
            if number:
                tell(journal, number - 1)

            def die(method: str, name: str, machine: Machine = machine) -> None:
                if method == "PUT" and name == rollout_name(MODEL):
                    machine.cluster.down = True

            if number % 2:
                machine.cluster.before = die
                with pytest.raises(JournalUnavailable):
                    journal.save(saved(number))
        revive(machine)
        heir = published.machine().journal(FAKE)
        with heir.lease():
            carry_out(heir, number)
    reader = published.machine()
    reader.rollouts.refresh(MODEL)
    assert told_in(reader.folder(FAKE)) == (list(range(20)), list(range(20)))


def test_what_was_read_of_a_rollout_is_not_written_over_what_its_runner_wrote_meanwhile(
    published: Place,
) -> None:
    machine = published.machine()
    store, folder = ClusterStore(machine.cluster, MODEL), machine.folder(FAKE)
    with (journal := machine.journal(FAKE)).lease():
        carry_out(journal, 0)
        kept = store.read()
        assert kept is not None
        late = Copy.of(store, kept, folder)
        carry_out(journal, 1)
        late.write()
        assert told_in(folder) == ([0, 1], [0, 1])
        assert journal.load() == saved(1)


def revive(machine: Machine) -> None:
    """Its way to the cluster works again, and what it held is over."""
    machine.cluster.before, machine.cluster.down = None, False
    time.sleep(QUICK.lasts_s)


# --- a cluster that does not answer ----------------------------------------------------


def test_what_cannot_be_saved_is_in_no_folder_and_the_next_save_has_its_place(published: Place) -> None:
    machine = published.machine()
    journal = machine.journal(FAKE)
    with journal.lease():
        carry_out(journal, 0)
        machine.cluster.down = True
        with pytest.raises(JournalUnavailable, match=r"cannot be saved\. connection refused"):
            journal.save(saved(1))
        assert journal.load() == saved(0)
        assert list(journal.take_requests()) == []
        machine.cluster.down = False
        carry_out(journal, 1)
    assert published.machine().journal(FAKE).load() == saved(1)


def test_a_save_of_which_the_answer_is_lost_may_be_done_over_by_its_runner_and_by_nobody_else(
    published: Place,
) -> None:
    machine, reader = published.machine(), published.machine()
    journal = machine.journal(FAKE)
    unheard = saved(1)
    unheard["outbox"]["ticks"][0]["what"] = "nobody was told that this was saved"
    unheard["outbox"]["events"].append({**unheard["outbox"]["events"][0], "sequence": 2})
    unheard["state"]["events"] = 3
    with journal.lease():
        carry_out(journal, 0)
        machine.cluster.mute = True
        with pytest.raises(JournalUnavailable):
            journal.save(unheard)
        machine.cluster.mute = False
        reader.rollouts.refresh(MODEL)
        assert told_in(reader.folder(FAKE)) == ([0, 1], [0, 1, 2])
        carry_out(journal, 1)
        reader.rollouts.refresh(MODEL)
        assert told_in(reader.folder(FAKE)) == ([0, 1], [0, 1])
        for name in ("ticks.jsonl", "events.jsonl"):
            assert (reader.folder(FAKE) / name).read_bytes() == (machine.folder(FAKE) / name).read_bytes()


def test_a_request_that_came_with_an_unsaved_tick_is_given_again(published: Place) -> None:
    machine, person = published.machine(), published.machine()
    journal = machine.journal(FAKE)
    with journal.lease():
        carry_out(journal, 0)
        person.rollouts.ask(person.folder(FAKE), PAUSE)
        assert list(journal.take_requests()) == [PAUSE]
        machine.cluster.down = True
        with pytest.raises(JournalUnavailable):
            journal.save(saved(1))
        assert list(journal.take_requests()) == []
        with pytest.raises(JournalUnavailable):
            journal.save(saved(1))
        machine.cluster.down = False
        assert list(journal.take_requests()) == [PAUSE]
        carry_out(journal, 1)
        assert list(journal.take_requests()) == []


def test_a_request_that_no_state_holds_is_not_taken_for_obeyed_where_requests_alone_cannot_be_read(
    published: Place,
) -> None:
    machine, person = published.machine(), published.machine()
    journal = machine.journal(FAKE)

    def hide_requests(method: str, name: str) -> None:
        if (method, name) == ("GET", f"{MODEL}-asks"):
            raise ClusterUnavailable("too many requests")

    with journal.lease():
        carry_out(journal, 0)
        person.rollouts.ask(person.folder(FAKE), PAUSE)
        assert list(journal.take_requests()) == [PAUSE]
        machine.cluster.down = True
        with pytest.raises(JournalUnavailable):
            journal.save(saved(1))
        machine.cluster.down = False
        machine.cluster.before = hide_requests
        assert list(journal.take_requests()) == []
        carry_out(journal, 1)
        machine.cluster.before = None
        assert list(journal.take_requests()) == [PAUSE]


def test_a_lease_that_could_not_be_renewed_stays_with_its_holder_while_nobody_takes_it(
    published: Place,
) -> None:
    machine = published.machine()
    journal = machine.journal(FAKE)
    with journal.lease():
        machine.cluster.down = True
        time.sleep(2 * QUICK.lasts_s)
        machine.cluster.down = False
        carry_out(journal, 0)
        awaited(lambda: published.machine().rollouts.is_driven(machine.folder(FAKE)), "it is renewed again")


# --- two who want the same -------------------------------------------------------------


def test_whoever_is_second_is_told_who_drives_and_where(published: Place) -> None:
    with (
        published.machine().journal(FAKE).lease(),
        pytest.raises(
            AlreadyRunning, match=rf"rollout {FAKE.about.id}, process \d+ on .+, since 20\d\d-.*abort"
        ),
        published.machine().journal(FAKE).lease(),
    ):
        pass


def test_who_could_not_reach_the_cluster_and_was_replaced_saves_and_tells_nothing_more(
    published: Place,
) -> None:
    cut_off, heir = published.machine(), published.machine()
    old, new = cut_off.journal(FAKE), heir.journal(FAKE)
    with old.lease():
        carry_out(old, 0)
        cut_off.cluster.down = True
        time.sleep(QUICK.lasts_s)
        with new.lease():
            carry_out(new, 1)
            cut_off.cluster.down = False
            with pytest.raises(AlreadyRunning):
                old.save(saved(1))
            carry_out(new, 2)
            with pytest.raises(AlreadyRunning):
                tell(old, 1)
    assert told_in(cut_off.folder(FAKE)) == ([0], [0])
    assert new.load() == saved(2)


def test_who_slept_over_the_end_of_its_lease_is_refused_at_the_first_save(
    published: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a laptop whose lid was closed: no thread of it has noticed anything yet."""
    sleeper, heir = published.machine(), published.machine()
    old, new = sleeper.journal(FAKE), heir.journal(FAKE)
    with monkeypatch.context() as patch:
        patch.setattr("coalmine.cluster.lease.Held.run", lambda _: None)
        with old.lease():
            carry_out(old, 0)
            time.sleep(QUICK.lasts_s)
            with new.lease(), pytest.raises(AlreadyRunning, match="no longer driven from here"):
                old.save(saved(1))
    assert published.machine().journal(FAKE).load() == saved(0)


def test_of_many_that_begin_at_once_one_drives(published: Place) -> None:
    start, drove, refused = threading.Barrier(8), [], []

    def begin_to_drive(machine: Machine) -> None:
        start.wait()
        try:
            with machine.journal(FAKE).lease():
                drove.append(machine)
                time.sleep(2 * QUICK.lasts_s)
        except AlreadyRunning:
            refused.append(machine)

    threads = [threading.Thread(target=begin_to_drive, args=(published.machine(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(drove), len(refused)) == (1, 7)


def test_who_drove_from_this_clone_and_died_need_not_be_waited_for(published: Place) -> None:
    machine = published.machine()
    killed = machine.journal(FAKE)
    with killed.lease():
        carry_out(killed, 0)
        machine.cluster.down = True  # it cannot give the lease back, as one that was killed
    machine.cluster.down = False
    with pytest.raises(AlreadyRunning), published.machine().journal(FAKE).lease():
        pass
    with machine.journal(FAKE).lease():
        pass


# --- hands of people -------------------------------------------------------------------


def test_what_is_deleted_by_hand_while_a_runner_drives_is_there_again(published: Place) -> None:
    machine = published.machine()
    journal = machine.journal(FAKE)
    name = rollout_name(MODEL)
    with journal.lease():
        carry_out(journal, 0)
        for kind in (CONFIG_MAP, LEASE):
            machine.cluster.delete(kind, name)
        carry_out(journal, 1)
        awaited(lambda: machine.cluster.get(LEASE, name) is not None, "the lease is there again")
    reader = published.machine()
    reader.rollouts.refresh(MODEL)
    assert told_in(reader.folder(FAKE)) == ([0, 1], [0, 1])


def test_a_record_that_was_edited_is_named_with_what_to_do(published: Place) -> None:
    machine = published.machine()
    machine.cluster.merge(CONFIG_MAP, rollout_name(MODEL), {"data": {"closed": "nothing"}})
    with pytest.raises(IntegrityError, match=f"ConfigMap {rollout_name(MODEL)} in shop .* deliver again"):
        machine.rollouts.refresh(MODEL)
