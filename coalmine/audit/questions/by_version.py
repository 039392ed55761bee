"""Everything of one release, whether it ever served or not: how it was made, how its rollouts went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coalmine.audit.deeds import who_of
from coalmine.audit.ledger import Ledger
from coalmine.audit.questions.by_dataset import Served, served_times
from coalmine.audit.questions.in_full import Course, course, read_manifest
from coalmine.audit.questions.scope import Scope
from coalmine.audit.rollout_record import closings
from coalmine.errors import InputError, NotFound
from coalmine.manifest import Manifest, Trigger
from coalmine.registry.repository import Commit
from coalmine.slots import SlotRelease


@dataclass(frozen=True)
class Version:
    """before: the release that it is compared with: its parent, if no other was named; None: it has none.

    release: as its commit names it. served, courses: oldest first; empty where there was none.
    """

    manifest: Manifest
    before: Manifest | None
    release: SlotRelease
    released: datetime
    who: Trigger
    served: tuple[Served, ...]
    courses: tuple[Course, ...]


def by_version(ledger: Ledger, scope: Scope, asked: str) -> Version:
    """
    asked: VERSION, or EARLIER..VERSION to compare with another one than its parent.

    Raises:
        InputError: no model was named.
        NotFound: there is no such release; names the newest ones.
        IntegrityError: a manifest is not the one that its commit tells of.
    """
    if scope.model is None:
        raise InputError(f"Name the model of the release: coalmine audit MODEL --version {asked}")
    earlier, _, version = asked.rpartition("..")
    commit = _release(ledger, scope.model, version)
    release = _as_released(commit)
    manifest = read_manifest(ledger.repository, scope.model, release)
    earlier = earlier or manifest.parent or ""
    before = _as_released(_release(ledger, scope.model, earlier)) if earlier else None
    return Version(
        manifest,
        None if before is None else read_manifest(ledger.repository, scope.model, before),
        release,
        commit.at,
        who_of(commit),
        tuple(served_times(ledger, scope).get((scope.model, version), ())),
        tuple(
            course(ledger.repository, each)
            for each in closings(ledger.commits)
            if (each.trailers.get("Model"), each.trailers.get("Version")) == (scope.model, version)
            and scope.has(each.trailers.get("Environment"), scope.model)
        ),
    )


def _release(ledger: Ledger, model: str, version: str) -> Commit:
    of_model = {c.trailers["Version"]: c for c in ledger.releases if c.trailers["Model"] == model}
    if version not in of_model:
        newest = ", ".join(list(of_model)[-5:])
        there = f"The newest: {newest}." if newest else "It has none."
        raise NotFound(f"{model} has no release {version}. {there}")
    return of_model[version]


def _as_released(commit: Commit) -> SlotRelease:
    trailers = commit.trailers
    return SlotRelease(
        version=trailers["Version"], commit=commit.sha, model_digest=trailers.get("Digest", "none at all")
    )
