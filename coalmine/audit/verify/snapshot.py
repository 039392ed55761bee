"""What is looked at, read from Git once: commits with what they change of the record, tags, files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coalmine.errors import IntegrityError, RepositoryUnready
from coalmine.registry.repository import Commit, Repository
from coalmine.registry.whole_history import (
    CommitChanges,
    FileChange,
    TagReference,
    all_changes,
    files_of,
    tag_references,
)
from coalmine.slots import Slots, parse_slots


class Written(StrEnum):
    """Which file of the record; LOCK and POINTER are DVC's, which people change too."""

    MANIFEST = "manifest"
    DECISION = "decision"
    SLOTS = "slots"
    EVIDENCE = "evidence"
    LOCK = "lock"
    POINTER = "pointer"


@dataclass(frozen=True)
class RecordPath:
    """name: the model; for a POINTER, the dataset. environment: of SLOTS. rollout: of EVIDENCE."""

    written: Written
    name: str
    environment: str | None = None
    rollout: str | None = None


_PATHS = {
    Written.MANIFEST: re.compile(r"models/(?P<name>[^/]+)/manifest\.yaml"),
    Written.DECISION: re.compile(r"models/(?P<name>[^/]+)/decision\.yaml"),
    Written.EVIDENCE: re.compile(r"models/(?P<name>[^/]+)/rollouts/(?P<rollout>[^/]+)/.+", re.DOTALL),
    Written.SLOTS: re.compile(r"k8s/environments/(?P<environment>[^/]+)/(?P<name>[^/]+)/slots\.yaml"),
    Written.LOCK: re.compile(r"models/(?P<name>[^/]+)/dvc\.lock"),
    Written.POINTER: re.compile(r"data/(?P<name>[^/]+)/partitions\.dvc"),
}


@dataclass(frozen=True)
class Change:
    """One file of the record in one commit. is_merge: it joins others, and none of them has this file so."""

    commit: Commit
    of: RecordPath
    file: FileChange

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def is_merge(self) -> bool:
        return len(self.file.before) > 1

    @property
    def before(self) -> str | None:
        """The blob in the first parent."""
        return self.file.before[0] if self.file.before else None

    @property
    def after(self) -> str | None:
        return self.file.after


@dataclass(frozen=True)
class Entry:
    """A commit with what it changes of the record."""

    commit: Commit
    parents: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def decision(self) -> str | None:
        """Its trailer `Decision`."""
        return self.commit.trailers.get("Decision")

    def changed(self, written: Written, name: str) -> Change | None:
        return next((each for each in self.changes if each.of == RecordPath(written, name)), None)


class Snapshot:
    """
    entries: HEAD's, parents before children. elsewhere: those of other branches, which HEAD lacks.
    files: path to blob of what HEAD has of the record.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.head = repository.head()
        self.entries = _entries(repository, [self.head])
        self.elsewhere = _entries(repository, ["--branches", "--remotes", f"^{self.head}"])
        self.tags: dict[str, TagReference] = {tag.name: tag for tag in tag_references(repository)}
        files = files_of(repository, self.head, ["models", "k8s/environments"])
        self.files = {path: blob for path, blob in files.items() if record_path(path) is not None}

    def changes(self, *wanted: Written) -> Iterator[Change]:
        """Parents before children."""
        return (each for entry in self.entries for each in entry.changes if each.of.written in wanted)

    def contents(self, blobs: Iterable[str]) -> Iterator[bytes]:
        """The files, in order.

        Raises:
            RepositoryUnready: one is not in this clone, or damaged.
        """
        asked = list(blobs)
        for blob, content in zip(asked, self._repository.read_all(asked), strict=True):
            if content is None:
                raise RepositoryUnready(
                    f"This clone lacks the file {blob} of its own history. Take a whole one (git clone URL), "
                    "or see what is damaged here (git fsck)"
                )
            yield content


def slots_in(content: bytes) -> Slots | None:
    """None: no slots can be read there."""
    try:
        return parse_slots(content.decode(errors="replace"), "slots.yaml")
    except IntegrityError:
        return None


def record_path(path: str) -> RecordPath | None:
    """None: no file of the record."""
    for written, pattern in _PATHS.items():
        match = pattern.fullmatch(path)
        if match is not None:
            return RecordPath(written, **match.groupdict())
    return None


def _entries(repository: Repository, revisions: Sequence[str]) -> list[Entry]:
    return [
        Entry(each.commit, each.parents, tuple(_changes(each))) for each in all_changes(repository, revisions)
    ]


def _changes(of_commit: CommitChanges) -> Iterator[Change]:
    for file in of_commit.changes:
        of = record_path(file.path)
        if of is not None:
            yield Change(of_commit.commit, of, file)
