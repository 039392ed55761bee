"""What served when, why, and by whom, from Git alone: any clone answers, also years later.

The slots files are the source: what Git held as stable at a time is what served then; the
commits' trailers say why and by whom. A change of the file that no rollout recorded is told as
such. What Git cannot know stands in `LIMITS`, to be printed with every answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from coalmine.audit.attribution import from_trailer
from coalmine.audit.closing import RECORD, RolloutRecord, parse_record, record_folder
from coalmine.audit.slots_history import SlotsChange, slots_history
from coalmine.errors import InputError, IntegrityError, NotFound
from coalmine.manifest import DatasetVersion, Estimate, Manifest, Trigger, manifest_path, parse_manifest
from coalmine.registry.repository import Commit, Repository
from coalmine.slots import SlotRelease

LIMITS = (
    "Times are those of the commits: a rollout moves the users first and commits seconds later, so its own "
    "events are the finer source, and they are what the weights during a rollout come from. "
    "A rollout that has not ended is not in Git yet. Who asked is as sure as the proof beside the name."
)


class Action(StrEnum):
    """What a commit says was done; the value of its `Decision` trailer."""

    RELEASE = "release"
    KEEP = "keep"  # the champion stays
    PROMOTED = "promoted"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled-back"  # by a person, after the rollout had ended
    UNRECORDED = "unrecorded"  # the slots file changed and no trailer says why


@dataclass(frozen=True)
class Deployment:
    """One change of what serves, or one release that was turned away.

    version: the one it was about; None when nothing serves any more.
    """

    at: datetime
    environment: str
    model: str
    version: str | None
    outcome: Action
    who: Trigger
    rollout: str | None
    commit: str


@dataclass(frozen=True)
class InFlight:
    """The candidate of a rollout that ran at that time, and its share as the rollout recorded it."""

    rollout: str
    version: str
    weight_percent: int


@dataclass(frozen=True)
class Served:
    """What served at one time. until: None when it still does.

    release: the commit, digest and dataset digests that the slot named; the manifest was read at
    that commit and matches that digest. who and rollout: of the change that made it stable.
    """

    version: str
    since: datetime
    until: datetime | None
    release: SlotRelease
    manifest: Manifest
    who: Trigger
    rollout: str | None
    beside: InFlight | None

    @property
    def dataset(self) -> DatasetVersion:
        return self.manifest.dataset

    @property
    def code(self) -> str:
        return self.manifest.code

    @property
    def metrics(self) -> dict[str, Estimate]:
        return self.manifest.decision.metrics


@dataclass(frozen=True)
class Entry:
    """One line of a model's life. sentence: the commit's subject."""

    at: datetime
    action: Action
    version: str | None
    environment: str | None
    who: Trigger
    rollout: str | None
    commit: str
    sentence: str


# --- questions -------------------------------------------------------------------------


def deployments(
    repository: Repository, environment: str | None = None, model: str | None = None
) -> list[Deployment]:
    """Everything that was put in front of users or turned away, oldest first."""
    found = [
        deployment
        for place, changes in slots_history(repository, environment, model).items()
        for deployment in _deployments_of(*place, changes)
    ]
    return sorted(found, key=lambda deployment: deployment.at)


def served(repository: Repository, environment: str, model: str, at: datetime) -> Served:
    """What users got at `at`.

    Raises:
        InputError: `at` has no time zone.
        NotFound: nothing served then; says since when something has.
        IntegrityError: the release's manifest is not the one that was put there.
    """
    if at.tzinfo is None:
        raise InputError(f"{at.isoformat()} has no time zone: write {at.isoformat()}Z for UTC")
    states = slots_history(repository, environment, model).get((environment, model), [])
    changes = [state for state in states if state.changes_stable]
    past = [state for state in changes if state.commit.at <= at]
    release = past[-1].after.stable_release if past else None
    if release is None:
        raise NotFound(_nothing_served(environment, model, at, changes))
    after = [state.commit.at for state in changes if state.commit.at > at]
    return Served(
        version=release.version,
        since=past[-1].commit.at,
        until=after[0] if after else None,
        release=release,
        manifest=_manifest(repository, model, release),
        who=_who(past[-1].commit),
        rollout=past[-1].commit.trailers.get("Rollout"),
        beside=_in_flight(repository, model, states, at),
    )


def history(repository: Repository, model: str) -> list[Entry]:
    """A model's life: releases, kept champions, promotions, rejections, roll-backs; oldest first."""
    actions = set(Action)
    commits = [
        commit
        for commit in repository.log(trailers={"Model": model})
        if commit.trailers.get("Decision") in actions
    ]
    return [_entry(commit) for commit in reversed(commits)]


def rollout_record(repository: Repository, deployment: Deployment) -> RolloutRecord:
    """How the rollout behind `deployment` went.

    Raises:
        NotFound: no rollout was behind it.
    """
    if deployment.rollout is None:
        raise NotFound(f"commit {deployment.commit[:12]} changed {deployment.model} without a rollout")
    return _record(repository, deployment.model, deployment.rollout, deployment.commit)


# --- the pieces of an answer -----------------------------------------------------------


def _deployments_of(environment: str, model: str, states: Iterable[SlotsChange]) -> Iterator[Deployment]:
    for state in states:
        action = _action(state.commit)
        if not state.changes_stable and action is not Action.REJECTED:
            continue
        yield Deployment(
            at=state.commit.at,
            environment=environment,
            model=model,
            version=_version(state, action),
            outcome=action,
            who=_who(state.commit),
            rollout=state.commit.trailers.get("Rollout"),
            commit=state.commit.sha,
        )


def _version(state: SlotsChange, action: Action) -> str | None:
    if action is Action.REJECTED:
        return state.commit.trailers.get("Version")
    stable = state.after.stable_release
    return stable.version if stable else None


def _action(commit: Commit) -> Action:
    try:
        return Action(commit.trailers.get("Decision", ""))
    except ValueError:
        return Action.UNRECORDED


def _who(commit: Commit) -> Trigger:
    said = from_trailer(commit.trailers.get("Triggered-By", ""))
    return said or Trigger(kind="person", who=commit.author, proof="claimed")


def _entry(commit: Commit) -> Entry:
    return Entry(
        at=commit.at,
        action=_action(commit),
        version=commit.trailers.get("Version"),
        environment=commit.trailers.get("Environment"),
        who=_who(commit),
        rollout=commit.trailers.get("Rollout"),
        commit=commit.sha,
        sentence=commit.subject,
    )


def _manifest(repository: Repository, model: str, release: SlotRelease) -> Manifest:
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


def _in_flight(
    repository: Repository, model: str, states: Iterable[SlotsChange], at: datetime
) -> InFlight | None:
    """Rollouts of one model and environment follow each other, so only the next to end can have run then."""
    endings = (Action.PROMOTED, Action.REJECTED)
    later = (s.commit for s in states if s.commit.at > at and _action(s.commit) in endings)
    closing = next(later, None)
    if closing is None:
        return None
    record = _record(repository, model, closing.trailers["Rollout"], closing.sha)
    if record.started > at:
        return None
    return InFlight(record.id, record.candidate, record.weight_at(at))


def _record(repository: Repository, model: str, rollout: str, commit: str) -> RolloutRecord:
    path = record_folder(model, rollout) / RECORD
    return parse_record(repository.read(commit, path).decode(), str(path))


def _nothing_served(environment: str, model: str, at: datetime, changes: list[SlotsChange]) -> str:
    at_utc = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if not changes:
        return f"Nothing of {model} was ever in front of users in {environment}, as far as this clone knows."
    first = f"{changes[0].commit.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{model} served nobody in {environment} at {at_utc}. It was put there first at {first}."
