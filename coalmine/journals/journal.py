"""One rollout's journal as files, under `.coalmine/rollouts/<environment>/<model>/<rollout id>/`.

    about.json        who sends which release where; written once
    state.json        the engine's last state, replaced whole
    events.jsonl      the story, one event per line
    plan.json         the plan as it was when the rollout began, which is followed to its end
    ticks.jsonl       all that was seen in each tick, and what the gates made of it; with the plan, enough
                      to recompute every decision. Older rollouts have polls.jsonl: counts alone
    requests.jsonl    what people asked; requests.offset: up to where the engine has acted on it

The folder above holds `lease`, the right to move this model's route. Whoever runs the
rollout writes; anybody may read at any moment, and ask. Nothing here decides anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from coalmine.durable import append_line, read_lines, replace_text
from coalmine.errors import AlreadyRunning, IntegrityError, NotFound
from coalmine.journals.about import About, parse_about
from coalmine.journals.polls import PollRecord, poll_from_json
from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Request
from coalmine.rollout.ticks import Tick, tick_from_json
from coalmine.rollout.written import request_to_json
from coalmine.settings import STATE

ABOUT, PLAN, STATE_FILE, EVENTS = "about.json", "plan.json", "state.json", "events.jsonl"
TICKS, POLLS = "ticks.jsonl", "polls.jsonl"
REQUESTS, REQUESTS_OFFSET = "requests.jsonl", "requests.offset"

LOOKING_TAKES_S = 0.3  # whoever looks whether a runner is alive holds the lease for a moment

ENDINGS = (EventKind.PROMOTED, EventKind.ROLLED_BACK)


class FileJournal:
    """The Journal port over one rollout's folder.

    Events and ticks are known by their `sequence`: a runner that starts where another one died
    may append the same again, and nothing is written twice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events = _Lines(folder / EVENTS)
        self._ticks = _Lines(folder / TICKS)
        self._requests_seen: int | None = None

    @contextmanager
    def lease(self) -> Iterator[None]:
        """The kernel gives the lease back when its holder dies, however it dies."""
        path = self._folder.parent / "lease"
        with path.open("a+", encoding="utf-8") as file:
            deadline = time.monotonic() + LOOKING_TAKES_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise AlreadyRunning(self._held_by(file)) from error
                time.sleep(0.02)
            _write_holder(file, self._folder.name)
            try:
                yield
            finally:
                file.truncate(0)

    def _held_by(self, lease: IO[str]) -> str:
        model, environment = self._folder.parent.name, self._folder.parent.parent.name
        lease.seek(0)
        try:
            holder = json.loads(lease.read())
            who = "rollout {rollout}, process {pid} on {host}, since {since}".format(**holder)
        except (ValueError, KeyError):
            who = "a process that has just started"
        return (
            f"A rollout of {model} in {environment} is running already ({who}). "
            f"Follow it with `coalmine status`, or end it with `coalmine abort {model}`."
        )

    def load(self) -> dict[str, object] | None:
        """
        Raises:
            IntegrityError: the file was edited or damaged; says what to do.
        """
        path = self._folder / STATE_FILE
        try:
            state = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _state_damaged(path) from error
        if not isinstance(state, dict):
            raise _state_damaged(path)
        return state

    def save(self, state: Mapping[str, object]) -> None:
        replace_text(self._folder / STATE_FILE, json.dumps(state, ensure_ascii=False) + "\n")

    def append_event(self, event: Mapping[str, object]) -> None:
        self._events.append(event)

    def append_tick(self, tick: Mapping[str, object]) -> None:
        self._ticks.append(tick)

    def take_requests(self) -> Sequence[Request]:
        """What people asked since the last call, oldest first: each at least once.

        A call says that whatever the call before returned is in the saved state by now, and
        only then are those marked as taken. A runner killed in between is given them again,
        so the engine must treat a repeated request as the one that it knows.
        """
        if self._requests_seen is None:
            self._requests_seen = self._requests_taken()
        elif self._requests_seen != self._requests_taken():
            replace_text(self._folder / REQUESTS_OFFSET, f"{self._requests_seen}\n")
        path = self._folder / REQUESTS
        lines, self._requests_seen = read_lines(path, self._requests_seen)
        return [request_of(line, str(path)) for line in lines]

    def _requests_taken(self) -> int:
        try:
            return int((self._folder / REQUESTS_OFFSET).read_text())
        except (FileNotFoundError, ValueError):
            return 0  # asked again rather than never

    def ask(self, request: Request) -> None:
        """Leave `request` for the runner, which takes it at its next poll.

        Raises:
            NotFound: there is no such rollout.
        """
        if not self._folder.is_dir():
            raise NotFound(f"{self._folder} is no rollout. `coalmine status` lists those that run.")
        append_line(self._folder / REQUESTS, request_to_json(request))


class _Lines:
    """A file of JSON lines in which no two have the same `sequence`. One writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[object] | None = None

    def append(self, content: Mapping[str, object]) -> None:
        if self._known is None:
            self._known = {line["sequence"] for line in read_lines(self._path)[0]}
        if content["sequence"] not in self._known:
            append_line(self._path, content)
            self._known.add(content["sequence"])


# --- the rollouts of this machine ------------------------------------------------------


def begin(repository: Path, about: About) -> Path:
    """The folder of a rollout that is about to start, with what is known of it. Idempotent."""
    folder = _model_folder(repository, about.environment, about.model) / about.id
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / ABOUT, about.model_dump_json(indent=2) + "\n")
    return folder


def rollouts(repository: Path, environment: str, model: str) -> list[Path]:
    """The folders of all rollouts that began on this machine, newest last."""
    return sorted(about.parent for about in _model_folder(repository, environment, model).glob(f"*/{ABOUT}"))


def newest_rollouts(repository: Path, environment: str) -> list[Path]:
    """The folder of each model's newest rollout on this machine; quick, however many there were before."""
    models = sorted((repository / STATE / "rollouts" / environment).glob("*/"))
    newest = (next((f for f in _newest_first(model) if (f / ABOUT).exists()), None) for model in models)
    return [folder for folder in newest if folder is not None]


def _newest_first(model_folder: Path) -> list[Path]:
    return [model_folder / name for name in sorted(os.listdir(model_folder), reverse=True)]


def running(repository: Path, environment: str, model: str) -> Path | None:
    """The newest rollout that has a state and no end, whether or not its runner is alive."""
    open_ones = [folder for folder in rollouts(repository, environment, model) if is_running(folder)]
    return open_ones[-1] if open_ones else None


def is_running(folder: Path) -> bool:
    """Until the end is told: a runner killed just before is to be started again, to tell it."""
    return (folder / STATE_FILE).exists() and not has_ended(folder)


def has_ended(folder: Path) -> bool:
    return any(event.kind in ENDINGS for event in read_events(folder))


def is_driven(folder: Path) -> bool:
    """Whether a runner holds the lease of the rollout's model."""
    try:
        with (folder.parent / "lease").open("rb") as file:
            # Shared: those who look do not refuse one another.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_about(folder: Path) -> About:
    """
    Raises:
        NotFound: no rollout began in `folder`.
    """
    path = folder / ABOUT
    try:
        return parse_about(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise NotFound(f"{folder} holds no rollout (no {ABOUT}).") from error


def read_events(folder: Path) -> list[Event]:
    """The story so far; a line that is just being written is not part of it yet."""
    lines, _ = read_lines(folder / EVENTS)
    return [Event(**{**line, "kind": EventKind(line["kind"])}) for line in lines]


def keep_plan(folder: Path, plan: Plan) -> Plan:
    """The plan of the rollout in `folder`: the one it began with, or `plan` if it has not yet begun."""
    kept = read_plan(folder)
    if kept is not None:
        return kept
    replace_text(folder / PLAN, json.dumps(plan.to_json(), indent=2, ensure_ascii=False) + "\n")
    return plan


def read_plan(folder: Path) -> Plan | None:
    """None: the rollout has not begun, or it is one of those that kept no plan.

    Raises:
        IntegrityError: the file was edited or damaged.
    """
    path = folder / PLAN
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return parse_plan(text, str(path))


def parse_plan(text: str, where: str) -> Plan:
    """
    Raises:
        IntegrityError: not a plan as it was written when the rollout began.
    """
    try:
        return Plan.from_json(json.loads(text))
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{where} is no plan that this coalmine reads ({type(error).__name__}: {error}). Use the version "
            "that ran the rollout, or take the plan from the closing commit."
        ) from error


def read_ticks(folder: Path) -> list[Tick]:
    """All that was seen so far; empty for a rollout that kept its polls alone."""
    path = folder / TICKS
    return [tick_from_json(line, str(path)) for line in read_lines(path)[0]]


def read_polls(folder: Path) -> list[PollRecord]:
    """The counts so far; a line that is just being written is not part of them yet."""
    path = folder / TICKS
    if path.exists():
        return [poll_from_json(line["poll"], str(path)) for line in read_lines(path)[0] if "poll" in line]
    path = folder / POLLS
    return [poll_from_json(line, str(path)) for line in read_lines(path)[0]]


def read_missing(folder: Path) -> list[str]:
    """What some reading so far says was not counted, each sentence once, in the order in which they came."""
    seen = (line.get("seen") or {} for line in read_lines(folder / TICKS)[0])
    readings = (each.get("reading") or {} for each in seen)
    return list(dict.fromkeys(sentence for reading in readings for sentence in reading.get("missing", ())))


def _model_folder(repository: Path, environment: str, model: str) -> Path:
    return repository / STATE / "rollouts" / environment / model


def _write_holder(lease: IO[str], rollout: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"rollout": rollout, "pid": os.getpid(), "host": socket.gethostname(), "since": since}
    lease.truncate(0)
    lease.write(json.dumps(holder) + "\n")
    lease.flush()


def request_of(line: Mapping[str, object], where: str) -> Request:
    """
    Raises:
        IntegrityError: the line was edited or damaged.
    """
    try:
        return Request(Ask(str(line["ask"])), str(line["who"]), float(str(line["at_s"])))
    except (KeyError, ValueError) as error:
        raise IntegrityError(
            f"{where} holds a request that coalmine did not write: {json.dumps(line)}. "
            "Take that line out and ask again with `coalmine pause|resume|abort|promote`."
        ) from error


def _state_damaged(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is written by coalmine and cannot be read, so the rollout cannot go on from where it was. "
        f"Restore it from a backup, or move {path.parent} away and deliver again: a new rollout then starts "
        "from its first stage."
    )
