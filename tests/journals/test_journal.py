from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from coalmine.errors import AlreadyRunning, IntegrityError, MachineUnready, NotFound
from coalmine.journals.journal import (
    FileJournal,
    begin,
    is_running,
    keep_plan,
    read_about,
    read_events,
    read_plan,
    read_polls,
    rollouts,
    running,
)
from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Journal, Request
from coalmine.rollout_spec import Rollout
from tests.contracts.journal import ABORT, PAUSE, RESUME, JournalContract
from tests.journals.cluster_place import told_in
from tests.journals.fake_rollouts import FakeRollout, write_rollout


def event(sequence: int, kind: EventKind = EventKind.HELD) -> dict[str, object]:
    return Event(sequence, 100.0 + sequence, kind, f"Sentence {sequence}.", 5).to_json()


def folder_of(tmp_path: Path) -> Path:
    return rollouts(tmp_path, "local", "flight-delay")[-1]


class TestFileJournal(JournalContract):
    """Each process with the same folder."""

    @pytest.fixture
    def open_journal(self, journal: FileJournal, tmp_path: Path) -> Callable[[], Journal]:  # noqa: ARG002
        return lambda: FileJournal(folder_of(tmp_path))

    @pytest.fixture
    def ask(self, journal: FileJournal) -> Callable[[Request], None]:
        return journal.ask

    @pytest.fixture
    def told(self, tmp_path: Path) -> Callable[[], tuple[list[int], list[int]]]:
        return lambda: told_in(folder_of(tmp_path))


# --- state -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", '{"phase": "prog', "[]", "\x00\x00\x00"], ids=["empty", "torn", "list", "nul"]
)
def test_a_corrupt_state_stops_and_says_what_to_do(
    journal: FileJournal, tmp_path: Path, content: str
) -> None:
    (folder_of(tmp_path) / "state.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"state\.json .* deliver again"):
        journal.load()


def test_a_leftover_of_a_killed_save_does_no_harm(journal: FileJournal, tmp_path: Path) -> None:
    journal.save({"stage": 0})
    (folder_of(tmp_path) / ".state.json.new").write_text('{"stage": 1, "ga')
    assert journal.load() == {"stage": 0}
    journal.save({"stage": 2})
    assert journal.load() == {"stage": 2}


def test_a_full_disk_names_the_file_and_leaves_the_old_state(
    journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.save({"stage": 0})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineUnready, match=r"state\.json cannot be written: No space left"):
        journal.save({"stage": 1})
    assert journal.load() == {"stage": 0}


# --- events and polls ------------------------------------------------------------------


def test_a_torn_last_line_is_invisible_and_dropped_by_the_next_append(
    journal: FileJournal, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path)
    journal.append_event(event(0))
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(event(1))[:20])
    assert [e.sequence for e in read_events(folder)] == [0]
    FileJournal(folder).append_event(event(1))
    assert [e.sequence for e in read_events(folder)] == [0, 1]


def test_a_line_longer_than_a_read_is_kept_when_the_torn_one_after_it_is_dropped(
    journal: FileJournal, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path)
    journal.append_event({**event(0), "sentence": "x" * 200_000})
    with (folder / "events.jsonl").open("a") as file:
        file.write("y" * 200_000)
    FileJournal(folder).append_event(event(1))
    assert [e.sequence for e in read_events(folder)] == [0, 1]


def test_a_failed_append_leaves_no_half_line(
    journal: FileJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append_event(event(0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(MachineUnready):
            journal.append_event(event(1))
    journal.append_event(event(1))
    assert [e.sequence for e in read_events(folder_of(tmp_path))] == [0, 1]


def test_an_edited_line_stops_and_is_named(journal: FileJournal, tmp_path: Path) -> None:
    journal.append_event(event(0))
    with (folder_of(tmp_path) / "events.jsonl").open("a") as file:
        file.write("somebody was here\n")
    with pytest.raises(IntegrityError, match="somebody was here"):
        read_events(folder_of(tmp_path))


def test_a_poll_of_another_shape_stops_and_is_named(journal: FileJournal, tmp_path: Path) -> None:
    journal.append_tick({"sequence": 0, "at_s": 1.0, "poll": {}})
    with pytest.raises(IntegrityError, match=r"ticks\.jsonl .* 'stage'"):
        read_polls(folder_of(tmp_path))


def test_polls_come_back_as_they_were_written(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, FakeRollout(ends=False))
    polls = read_polls(folder)
    assert [poll.sequence for poll in polls] == list(range(len(polls)))
    assert {poll.stage for poll in polls} == {0, 1}
    assert polls[-1].weight_percent == 25
    assert {gate.gate for gate in polls[-1].gates} == {"errors", "latency"}


WRITER = """
import sys
import threading
from pathlib import Path
from coalmine.journals.journal import FileJournal
journal = FileJournal(Path(sys.argv[1]))
sequence = int(sys.argv[2])
print("ready", flush=True)
while True:
    event = {"sequence": sequence, "at_s": 1.0, "kind": "held", "sentence": "x" * 3000, "weight_percent": 5}
    journal.append_event(event)
    journal.save({"events": sequence + 1})
    sequence += 1
"""


def test_sigkill_at_any_moment_leaves_a_readable_journal(tmp_path: Path) -> None:
    folder = begin(tmp_path, FakeRollout().about)
    written = 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(folder), str(written)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            while len(read_events(folder)) < written + 3:
                pass
            writer.send_signal(signal.SIGKILL)
        sequences = [e.sequence for e in read_events(folder)]
        assert sequences == list(range(len(sequences)))
        state = FileJournal(folder).load()
        assert state is None or state["events"] in (len(sequences), len(sequences) - 1)
        written = len(sequences)


# --- lease -----------------------------------------------------------------------------


def test_a_second_runner_is_told_who_holds_the_lease(journal: FileJournal, tmp_path: Path) -> None:
    other = FileJournal(begin(tmp_path, FakeRollout(version="1.2.0").about))
    with (
        journal.lease(),
        pytest.raises(AlreadyRunning, match=rf"process {os.getpid()} on .+, since 20\d\d-"),
        other.lease(),
    ):
        pass


def test_another_models_lease_is_its_own(journal: FileJournal, tmp_path: Path) -> None:
    other = FileJournal(begin(tmp_path, FakeRollout(model="credit-risk").about))
    with journal.lease(), other.lease():
        pass


def _hold(folder: Path, holding: object) -> None:
    with FileJournal(folder).lease():
        holding.set()  # type: ignore[attr-defined]
        signal.pause()


def test_sigkill_of_the_holder_frees_the_lease(journal: FileJournal, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    holding = context.Event()
    holder = context.Process(target=_hold, args=(folder_of(tmp_path), holding))
    holder.start()
    assert holding.wait(60)
    with pytest.raises(AlreadyRunning, match=f"process {holder.pid}"), journal.lease():
        pass
    holder.kill()
    holder.join()
    with journal.lease():
        pass


# --- requests --------------------------------------------------------------------------


def test_a_request_is_taken_once(journal: FileJournal) -> None:
    journal.ask(PAUSE)
    journal.ask(RESUME)
    assert list(journal.take_requests()) == [PAUSE, RESUME]
    assert list(journal.take_requests()) == []


def test_a_request_that_was_acted_on_is_not_taken_again_after_a_restart(
    journal: FileJournal, tmp_path: Path
) -> None:
    journal.ask(PAUSE)
    journal.take_requests()
    journal.take_requests()  # says that the first was acted on
    journal.ask(ABORT)
    assert list(FileJournal(folder_of(tmp_path)).take_requests()) == [ABORT]


def test_a_request_after_a_torn_one_is_not_lost(journal: FileJournal, tmp_path: Path) -> None:
    (folder_of(tmp_path) / "requests.jsonl").write_text('{"ask": "pau')
    assert list(journal.take_requests()) == []
    journal.ask(ABORT)
    assert list(journal.take_requests()) == [ABORT]


def _ask(folder: Path, who: str) -> None:
    for number in range(20):
        FileJournal(folder).ask(Request(Ask.PAUSE, who, float(number)))


def test_requests_of_several_processes_all_arrive(journal: FileJournal, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    people = [context.Process(target=_ask, args=(folder_of(tmp_path), who)) for who in ("Ada", "Bo")]
    for person in people:
        person.start()
    taken: list[Request] = []
    while any(person.is_alive() for person in people):
        taken += journal.take_requests()
    taken += journal.take_requests()
    for who in ("Ada", "Bo"):
        assert [request.at_s for request in taken if request.who == who] == [float(n) for n in range(20)]


def test_a_line_that_another_process_is_writing_is_waited_for(journal: FileJournal, tmp_path: Path) -> None:
    path = folder_of(tmp_path) / "requests.jsonl"
    with path.open("a") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        writing.write('{"ask": "pause", ')
        writing.flush()
        asking = threading.Thread(target=journal.ask, args=(ABORT,))
        asking.start()
        asking.join(0.3)
        assert asking.is_alive()
        writing.write('"who": "Ada", "at_s": 1.0}\n')
        writing.flush()
        fcntl.flock(writing, fcntl.LOCK_UN)
        asking.join()
    assert list(journal.take_requests()) == [PAUSE, ABORT]


def test_asking_a_rollout_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no rollout"):
        FileJournal(tmp_path / "nowhere").ask(PAUSE)


def test_an_unknown_request_is_refused_by_name(journal: FileJournal, tmp_path: Path) -> None:
    (folder_of(tmp_path) / "requests.jsonl").write_text('{"ask": "explode", "who": "Ada", "at_s": 1}\n')
    with pytest.raises(IntegrityError, match="explode"):
        journal.take_requests()


# --- finding rollouts ------------------------------------------------------------------


def test_rollouts_are_listed_newest_last(tmp_path: Path) -> None:
    late = begin(tmp_path, FakeRollout(version="1.0.0", started_at_s=2e9).about)
    early = begin(tmp_path, FakeRollout(version="1.10.0", started_at_s=1e9).about)
    with FileJournal(late).lease():
        assert rollouts(tmp_path, "local", "flight-delay") == [early, late]
    assert rollouts(tmp_path, "local", "nobody") == []


@pytest.mark.parametrize(
    ("fake", "expected"),
    [
        (FakeRollout(ends=False), True),
        (FakeRollout(recorded=False), True),
        (FakeRollout(), False),
        (FakeRollout(failure_rates=(0.12, 0.001)), False),
    ],
    ids=["in a stage", "decided, not recorded", "promoted", "rolled back"],
)
def test_a_rollout_runs_until_its_end_is_told(tmp_path: Path, fake: FakeRollout, expected: bool) -> None:
    folder = write_rollout(tmp_path, fake)
    assert is_running(folder) is expected
    assert running(tmp_path, fake.environment, fake.model) == (folder if expected else None)


def test_a_rollout_that_never_saved_a_state_does_not_run(tmp_path: Path) -> None:
    begin(tmp_path, FakeRollout().about)
    assert running(tmp_path, "local", "flight-delay") is None


def test_about_comes_back_as_it_was_written(tmp_path: Path) -> None:
    about = FakeRollout().about
    assert read_about(begin(tmp_path, about)) == about
    with pytest.raises(NotFound, match="holds no rollout"):
        read_about(tmp_path)


def test_a_broken_about_is_named(tmp_path: Path) -> None:
    folder = begin(tmp_path, FakeRollout().about)
    (folder / "about.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"about\.json"):
        read_about(folder)


def test_a_rollout_keeps_to_the_plan_that_it_began_with(tmp_path: Path) -> None:
    first, edited = Plan.of(Rollout(stages=(5, 50))), Plan.of(Rollout(stages=(90,)))
    assert read_plan(tmp_path) is None
    assert keep_plan(tmp_path, first) == first
    assert keep_plan(tmp_path, edited) == first == read_plan(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"rollout": {"stages": [9, 5]}, "timeout_s": 2, "dispersion": {}}']
)
def test_a_damaged_plan_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"plan\.json is no plan"):
        read_plan(tmp_path)


def test_polls_of_a_journal_from_before_ticks_are_read(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, FakeRollout(ends=False))
    polls = read_polls(folder)
    lines = [json.loads(line)["poll"] for line in (folder / "ticks.jsonl").read_text().splitlines()]
    (folder / "ticks.jsonl").unlink()
    (folder / "polls.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_polls(folder) == polls
