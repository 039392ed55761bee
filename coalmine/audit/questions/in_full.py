"""What served at a time, with everything that the record holds of it: release, evidence, people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from coalmine.audit.asked import Asked, asked_of
from coalmine.audit.closing import unpack_polls
from coalmine.audit.deeds import who_of
from coalmine.audit.ledger import Ledger
from coalmine.audit.questions.at import Serving, read_records, serving
from coalmine.audit.questions.scope import Scope
from coalmine.audit.rollout_record import (
    POLLS_PACKED,
    TICKS_PACKED,
    EventRecord,
    RolloutRecord,
    closings,
    record_folder,
)
from coalmine.errors import IntegrityError, NotFound
from coalmine.journals.polls import PollRecord
from coalmine.manifest import Manifest, Trigger, manifest_path, parse_manifest
from coalmine.registry.repository import Commit, Repository
from coalmine.slots import SlotRelease


@dataclass(frozen=True)
class GateSaid:
    """What one gate said at the end of one stage. verdict: as the ticks have it, or None."""

    stage: str
    weight_percent: int
    gate: str
    verdict: str | None
    said: str


@dataclass(frozen=True)
class Course:
    """How one rollout went. weights: the candidate's share in percent, with what the rollout said of it."""

    record: RolloutRecord
    commit: str
    gates: tuple[GateSaid, ...]
    asked: tuple[Asked, ...]

    @property
    def weights(self) -> tuple[EventRecord, ...]:
        return self.record.events


@dataclass(frozen=True)
class InFull:
    """Everything of one release that served. released_by: who asked for the release.

    put_there: the rollout that made it stable; None where no rollout did. beside: one that ran at that time.
    """

    serving: Serving
    manifest: Manifest
    released_by: Trigger
    put_there: Course | None
    beside: Course | None


def in_full(ledger: Ledger, scope: Scope, at: datetime) -> list[InFull]:
    """
    Raises:
        NotFound: nothing of the model served then; says since when something has.
        IntegrityError: the release's manifest is not the one that was put there.
    """
    found = serving(ledger, scope, at)
    if not found:
        raise NotFound(_nothing_served(ledger, scope, at))
    return [_in_full(ledger, each) for each in found]


def _in_full(ledger: Ledger, serving: Serving) -> InFull:
    place = (serving.environment, serving.model)
    ended = {c.trailers["Rollout"]: c for c in closings(ledger.touching[place])}
    put_there = ended.get(serving.rollout or "")
    beside = None if serving.beside is None else ended[serving.beside.rollout]
    manifest = read_manifest(ledger.repository, serving.model, serving.release)
    recorded = next((commit for commit in ledger.commits if commit.sha == serving.release.commit), None)
    return InFull(
        serving,
        manifest,
        manifest.trigger if recorded is None else who_of(recorded),
        None if put_there is None else course(ledger.repository, put_there),
        None if beside is None else course(ledger.repository, beside),
    )


def read_manifest(repository: Repository, model: str, release: SlotRelease) -> Manifest:
    path = manifest_path(model)
    content = repository.read(release.commit, path)
    digest = hashlib.sha256(content).hexdigest()
    where = f"{path} at commit {release.commit[:12]}"
    if digest != release.model_digest:
        raise IntegrityError(
            f"{where} has the digest {digest[:12]}, and what was put in front of users had "
            f"{release.model_digest[:12]}: history was rewritten, or the slots file was edited by hand. "
            "Compare this clone with another one before you trust either."
        )
    return parse_manifest(content.decode(), where)


def course(repository: Repository, closing: Commit) -> Course:
    """How the rollout that ended in `closing` went."""
    (record,) = read_records(repository, [closing])
    folder = record_folder(record.model, record.id)
    names = [f"{closing.sha}:{folder / file}" for file in (TICKS_PACKED, POLLS_PACKED)]
    packed = dict(zip(names, repository.read_all(names), strict=True))
    polls = [poll for name, text in packed.items() if text for poll in unpack_polls(text, name)]
    return Course(record, closing.sha, tuple(_gates(record, polls)), tuple(_all_asked(record, closing)))


def _all_asked(record: RolloutRecord, closing: Commit) -> Iterator[Asked]:
    yield Asked(record.started, "started", who_of(closing), (), f"Asked for by {who_of(closing).who}.")
    yield from asked_of(record)


def _gates(record: RolloutRecord, polls: Sequence[PollRecord]) -> Iterator[GateSaid]:
    last = {poll.stage: poll for poll in polls}
    for number, stage in enumerate(record.stages):
        poll = last.get(None if stage.stage == "Bake" else number)
        verdicts = {gate.gate: gate.verdict for gate in poll.gates} if poll is not None else {}
        for gate, said in stage.gates.items():
            verdict = verdicts.get(gate)
            yield GateSaid(
                stage.stage, stage.weight_percent, gate, None if verdict is None else verdict.value, said
            )


def _nothing_served(ledger: Ledger, scope: Scope, at: datetime) -> str:
    where = "" if scope.environment is None else f" in {scope.environment}"
    turns = [turn.at for place in scope.places(ledger) for turn in ledger.turns[place]]
    if not turns:
        return f"Nothing of {scope.model} was ever in front of users{where}, as far as this clone knows."
    first, asked = (f"{each.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" for each in (min(turns), at))
    return f"{scope.model} served nobody{where} at {asked}. It was put there first at {first}."
