"""A rollout's record as it was written, to be computed again: from the commit that ended it, or its journal.

What Git holds comes first, since that is the record; a rollout that has not ended, or whose closing commit is
not here, is read from this machine's journal. Whichever it is, its lines are compared as text: what cannot
be written again, byte for byte, is not what was decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coalmine.audit.closing import Line, as_written, unpack_lines
from coalmine.audit.record import endings
from coalmine.audit.rollout_record import RECORD, TICKS_PACKED, RolloutRecord, parse_record, record_folder
from coalmine.audit.slots_history import Place, place_of
from coalmine.durable import read_lines
from coalmine.errors import InputError, NotFound
from coalmine.journals.journal import PLAN, TICKS, has_ended, parse_plan, read_about, read_events, read_plan
from coalmine.registry.repository import Commit, Repository
from coalmine.rollout.events import Event
from coalmine.rollout.plan import Plan
from coalmine.rollout.replay import Step, replay
from coalmine.rollout.ticks import Tick, fingerprint, measured_to_json, tick_from_json, tick_to_json
from coalmine.settings import STATE

# A date in YAML holds microseconds, a journal all of a float.
_AT_ONCE_S = 2e-6


@dataclass(frozen=True)
class Told:
    """One event as both kinds of record hold it."""

    at_s: float
    weight_percent: int
    sentence: str

    def is_of(self, event: Event) -> bool:
        at_once = abs(self.at_s - event.at_s) < _AT_ONCE_S
        return at_once and (self.weight_percent, self.sentence) == (event.weight_percent, event.sentence)

    def __str__(self) -> str:
        return f"{self.at_s:.3f} s, {self.weight_percent} %: {self.sentence}"


@dataclass(frozen=True)
class Recorded:
    """source: for people, where it was read. lines: the ticks as written, in order. has_ended: nothing that
    the ticks tell may be missing from the events; while a rollout runs, the newest are yet to be written."""

    rollout: str
    model: str
    source: str
    plan: Plan
    lines: tuple[Line, ...]
    events: tuple[Told, ...]
    has_ended: bool

    @property
    def ticks(self) -> list[Tick]:
        return [tick_from_json(line.content, self.source) for line in self.lines]


@dataclass(frozen=True)
class Difference:
    """The first place where the record and the computation differ. number: of the tick, or of the event."""

    what: str
    number: int
    recorded: str
    computed: str


def find(repository: Repository, named: str) -> Recorded:
    """
    named: the rollout's id; `MODEL/` or `ENVIRONMENT/MODEL/` before it says which, where several have it.

    Raises:
        NotFound: neither Git nor this machine knows it; names the newest ones that they know.
        InputError: several have that id, or it kept no ticks: coalmine wrote them not yet.
        IntegrityError: the record was edited or damaged.
    """
    *wanted, rollout = named.split("/")
    folders = (repository.top / STATE / "rollouts").glob(f"*/*/{rollout}/")
    found: dict[Place, Path | Commit] = {}
    for ending in endings(repository, rollout):
        if (place := place_of(ending)) is not None:
            found.setdefault(place, ending)
    for folder in folders:
        found.setdefault((folder.parents[1].name, folder.parent.name), folder)
    places = sorted(place for place in found if list(place[2 - len(wanted) :]) == wanted)
    if not places:
        raise NotFound(f"No rollout {named}, in Git or on this machine. {_known(repository)}")
    if len(places) > 1:
        names = " or ".join(f"{environment}/{model}/{rollout}" for environment, model in places)
        raise InputError(f"{len(places)} rollouts have the id {rollout}. Say which: {names}")
    source = found[places[0]]
    return _from_journal(source) if isinstance(source, Path) else _from_git(repository, source, rollout)


@dataclass(frozen=True)
class Computed:
    """difference: None where every tick, state, poll and event is computed again as it was written.
    events: those that were computed, up to the difference."""

    events: tuple[Event, ...]
    difference: Difference | None


def compute(recorded: Recorded) -> Computed:
    """
    Raises:
        IntegrityError: some of the ticks are missing.
    """
    told = iter(enumerate(recorded.events))
    events: list[Event] = []
    for step, line in zip(replay(recorded.plan, recorded.ticks), recorded.lines, strict=True):
        events += step.decision.events
        difference = _in_line(step, line) or _in_events(step, told, recorded.has_ended)
        if difference is not None:
            return Computed(tuple(events), difference)
    left = next(told, None)
    difference = None if left is None else Difference("event", left[0], str(left[1]), "nothing")
    return Computed(tuple(events), difference)


def _in_line(step: Step, line: Line) -> Difference | None:
    computed = tick_to_json(step.tick) | {"state": fingerprint(step.decision.state)}
    if step.decision.measured is not None:
        computed["poll"] = measured_to_json(step.decision.measured)
    if line.text == as_written(computed):
        return None
    for key in sorted(computed.keys() | line.content.keys()):  # a journal's keys stand in another order
        was, now = _in_words(line.content.get(key)), _in_words(computed.get(key))
        if was != now:
            return Difference(key, step.tick.sequence, was, now)
    return None


def _in_words(value: object) -> str:
    """As written, but readable for people."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _in_events(step: Step, told: Iterator[tuple[int, Told]], has_ended: bool) -> Difference | None:
    for event in step.decision.events:
        number, was = next(told, (event.sequence, None))
        if was is not None and was.is_of(event):
            continue
        if was is not None or has_ended:
            computed = str(Told(event.at_s, event.weight_percent, event.sentence))
            return Difference("event", number, str(was or "nothing"), computed)
    return None


# --- where it is read ------------------------------------------------------------------


def _from_git(repository: Repository, ending: Commit, rollout: str) -> Recorded:
    model = ending.trailers["Model"]
    folder = record_folder(model, rollout)
    names = repository.git("ls-tree", "--name-only", ending.sha, f"{folder}/").split()
    files = {Path(name).name: repository.read(ending.sha, name) for name in names}
    source = f"commit {ending.sha[:12]}"
    if TICKS_PACKED not in files or PLAN not in files:
        raise _too_old(rollout, source)
    record = parse_record(files[RECORD].decode(errors="replace"), f"{RECORD} in {source}")
    return from_files(rollout, model, source, record, files)


def from_files(
    rollout: str, model: str, source: str, record: RolloutRecord, files: Mapping[str, bytes]
) -> Recorded:
    """
    record: what `rollout.yaml` says. files: plan and ticks, by name, as the closing commit holds them.

    Raises:
        IntegrityError: one of them was edited or damaged.
    """
    return Recorded(
        rollout,
        model,
        source,
        parse_plan(files[PLAN].decode(errors="replace"), f"{PLAN} in {source}"),
        tuple(unpack_lines(files[TICKS_PACKED], f"{TICKS_PACKED} in {source}")),
        tuple(Told(event.at.timestamp(), event.weight_percent, event.what) for event in record.events),
        has_ended=True,
    )


def _from_journal(folder: Path) -> Recorded:
    plan, lines = read_plan(folder), read_lines(folder / TICKS)[0]
    if plan is None or not lines:
        raise _too_old(folder.name, str(folder))
    events = read_events(folder)
    return Recorded(
        folder.name,
        read_about(folder).model,
        str(folder),
        plan,
        tuple(Line(line, as_written(line)) for line in sorted(lines, key=_sequence)),
        tuple(Told(event.at_s, event.weight_percent, event.sentence) for event in events),
        has_ended(folder),
    )


def _sequence(line: Mapping[str, Any]) -> int:
    number: int = line["sequence"]
    return number


def _too_old(rollout: str, where: str) -> InputError:
    return InputError(
        f"{where} holds the counts of rollout {rollout} alone, without the plan and all that was seen: "
        "it ran before coalmine kept these, and cannot be computed again."
    )


def _known(repository: Repository) -> str:
    here = [path.parent.name for path in (repository.top / STATE / "rollouts").glob("*/*/*/about.json")]
    in_git = [path.name for path in repository.top.glob("models/*/rollouts/*/")]
    newest: Sequence[str] = sorted({*here, *in_git})[-5:]
    return f"The newest: {', '.join(newest)}." if newest else "There is none yet."
