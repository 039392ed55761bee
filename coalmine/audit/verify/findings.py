"""What is found where the record does not hold: precisely enough that a person knows where to look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from enum import StrEnum

from coalmine.registry.repository import Commit


class Kind(StrEnum):
    REWRITTEN = "history rewritten"
    BY_HAND = "edited by hand"
    TAKEN_BACK = "taken back"  # a merge dropped what a commit had recorded

    TRAILERS = "trailers"  # of a commit of coalmine, incomplete
    MANIFEST = "manifest"
    LOCK = "dvc.lock"
    DATASET = "dataset"
    CODE = "code"
    RELEASED_TWICE = "released twice"

    UNSIGNED = "unsigned"
    SIGNATURE = "signature"  # that is not over these bytes
    SIGNER = "signer"  # who is not allowed, or not then, or no more
    ALLOWED = "allowed signers"  # changed by nobody who may

    TAG_MISSING = "tag missing"
    TAG_MOVED = "tag moved"
    TAG_LIGHTWEIGHT = "tag without annotation"
    TAG_STRAY = "tag of nothing"

    SLOT_RELEASE = "release in a slot"
    ROLES = "roles"
    NUMBER = "number of an assignment"

    EVIDENCE_MISSING = "evidence missing"
    EVIDENCE_CHANGED = "evidence changed"
    EVIDENCE = "evidence"
    DECISIONS = "decisions"

    OBJECT_MISSING = "object missing"
    OBJECT_BYTES = "object's bytes"


@dataclass(frozen=True)
class Where:
    """At least one of the three. path: from the top of the repository, or in the DVC remote."""

    commit: str | None = None
    path: str | None = None
    tag: str | None = None

    def __str__(self) -> str:
        commit = None if self.commit is None else f"commit {self.commit[:12]}"
        tag = None if self.tag is None else f"tag {self.tag}"
        return ", ".join(part for part in (self.path, tag, commit) if part is not None)


@dataclass(frozen=True)
class Finding:
    """expected, seen: in words, without a full stop. remedy: what to do, a whole sentence."""

    kind: Kind
    where: Where
    expected: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: expected {self.expected}; seen {self.seen}. {self.remedy}"


@dataclass(frozen=True)
class Scope:
    """What was asked for; None: all."""

    model: str | None = None
    environment: str | None = None

    def has(self, model: str, environment: str | None = None) -> bool:
        """environment: None for what belongs to none, such as a release."""
        return self.model in (None, model) and (
            environment is None or self.environment in (None, environment)
        )


def by_whom(commit: Commit) -> str:
    return f"by {commit.author} on {commit.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, “{commit.subject}”"
