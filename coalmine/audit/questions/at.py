"""What served at a time, one line for each place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from coalmine.audit.deeds import Action
from coalmine.audit.ledger import Ledger, Span
from coalmine.audit.questions.scope import Scope
from coalmine.audit.rollout_record import RECORD, RolloutRecord, closings, parse_record, record_folder
from coalmine.audit.slots_history import Place
from coalmine.errors import IntegrityError
from coalmine.manifest import Trigger
from coalmine.registry.repository import Commit, Repository
from coalmine.slots import SlotRelease


@dataclass(frozen=True)
class InFlight:
    """The candidate of a rollout that ran at that time, and its share as the rollout recorded it."""

    rollout: str
    version: str
    weight_percent: int


@dataclass(frozen=True)
class Serving:
    """What was stable in one place. until: None while it is.

    release: as the slots file names it, by digest. who, rollout, commit: of the change that made it stable.
    """

    environment: str
    model: str
    version: str
    since: datetime
    until: datetime | None
    release: SlotRelease
    action: Action
    who: Trigger
    rollout: str | None
    commit: str
    beside: InFlight | None


def serving(ledger: Ledger, scope: Scope, at: datetime) -> list[Serving]:
    """What users got at `at`, by environment and model; without the places where nothing was stable."""
    places = scope.places(ledger)
    slots = ledger.slots_at(places, at)
    spans = {place: span for place in places if (span := ledger.span_at(place, at)) is not None}
    stable = {place: held for place, each in slots.items() if (held := each.stable_release) is not None}
    if not _agree(spans, stable):
        return serving(ledger.exactly(), scope, at)
    closing = {place: found for place in stable if (found := _running(ledger, place, at)) is not None}
    records = dict(zip(closing, read_records(ledger.repository, closing.values()), strict=True))
    return [
        _serving(spans[place], release, _beside(records.get(place), at))
        for place, release in sorted(stable.items())
    ]


def read_records(repository: Repository, closings: Iterable[Commit]) -> list[RolloutRecord]:
    """What the rollouts that ended in `closings` left in Git.

    Raises:
        IntegrityError: one of them is not as it was written, or is gone.
    """
    names = [record_name(commit) for commit in closings]
    return [_parsed(text, name) for name, text in zip(names, repository.read_all(names), strict=True)]


def _parsed(text: bytes | None, name: str) -> RolloutRecord:
    if text is None:
        commit, _, path = name.partition(":")
        raise IntegrityError(
            f"commit {commit[:12]} ended a rollout and has no {path}: look at git show {commit}"
        )
    return parse_record(text.decode(), name)


def record_name(closing: Commit) -> str:
    """Git's name of the file that the rollout which ended in `closing` left."""
    folder = record_folder(closing.trailers["Model"], closing.trailers["Rollout"])
    return f"{closing.sha}:{folder / RECORD}"


def _agree(spans: Mapping[Place, Span], stable: Mapping[Place, SlotRelease]) -> bool:
    """Whether trailers and files say the same of every place."""
    return set(spans) == set(stable) and all(span.turn.is_to(stable[place]) for place, span in spans.items())


def _serving(span: Span, release: SlotRelease, beside: InFlight | None) -> Serving:
    deed = span.turn.deed
    return Serving(
        span.environment,
        span.model,
        release.version,
        span.since,
        span.until,
        release,
        deed.action,
        deed.who,
        deed.rollout,
        deed.commit,
        beside,
    )


def _running(ledger: Ledger, place: Place, at: datetime) -> Commit | None:
    """The commit that ended the rollout that may have run then.

    Rollouts of one place follow each other, so only the next to end can have.
    """
    commits = ledger.touching[place]
    ended = next(closings(commit for commit in commits if commit.at > at), None)
    if ended is None:
        return None
    rollout = ended.trailers["Rollout"]
    handed_over = next(commit for commit in commits if commit.trailers.get("Rollout") == rollout)
    return None if handed_over is not ended and handed_over.at > at else ended


def _beside(record: RolloutRecord | None, at: datetime) -> InFlight | None:
    if record is None or record.started > at:
        return None
    return InFlight(record.id, record.candidate, record.weight_at(at))
