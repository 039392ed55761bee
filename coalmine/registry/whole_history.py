"""Git's history as a whole, for whoever looks at all of it: a process for each question, not each commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from coalmine.registry.repository import TRAILERS, Commit, Repository, parse_trailers

_LOG_FORMAT = f"--format=%H%x00%P%x00%cI%x00%an <%ae>%x00%s%x00{TRAILERS}"
_LOG_FIELDS = 6
_TAG_FORMAT = "--format=%(refname:strip=2)%00%(objecttype)%00%(objectname)%00%(*objectname)%00%(tag)"


@dataclass(frozen=True)
class FileChange:
    """What one commit made of one file: its blob before and after, None where there is no file.

    before: one for each parent; none at all in a first commit.
    """

    path: str
    before: tuple[str | None, ...]
    after: str | None


@dataclass(frozen=True)
class CommitChanges:
    """changes: of the files that were asked for. A merge changes those that it has as no parent has them."""

    commit: Commit
    parents: tuple[str, ...]
    changes: tuple[FileChange, ...]


@dataclass(frozen=True)
class TagReference:
    """commit: where it stands. says: the name inside an annotated tag, "" in a lightweight one, which is but
    a name for a commit."""

    name: str
    commit: str
    says: str


def all_changes(
    repository: Repository, revisions: Sequence[str], files: Sequence[str] = ()
) -> list[CommitChanges]:
    """Every commit of `revisions`, parents before children, also those that change none of `files`.

    files: pathspecs, as Git takes them; none: all files, in half the time, since Git then compares the trees
        of a commit once.
    """
    told = repository.git_bytes(
        *("log", "--topo-order", "--reverse", "--full-history", "--sparse"),
        *("-c", "--raw", "--no-abbrev", "--no-renames", "-z", _LOG_FORMAT),
        *(*revisions, "--", *files),
    )
    words = told.decode("utf-8", "surrogateescape").split("\0")
    commits: list[tuple[list[str], list[FileChange]]] = []
    at = 0
    while at < len(words):
        if not words[at]:  # between two commits, and before what a merge changes
            at += 1
        elif words[at].lstrip("\n").startswith(":"):
            commits[-1][1].append(_file_change(words[at].lstrip("\n"), words[at + 1]))
            at += 2
        else:
            commits.append((words[at : at + _LOG_FIELDS], []))
            at += _LOG_FIELDS
    return [_commit_changes(fields, changes) for fields, changes in commits]


def tag_references(repository: Repository) -> list[TagReference]:
    told = repository.git("for-each-ref", _TAG_FORMAT, "refs/tags")
    found = []
    for line in told.splitlines():
        name, kind, tagged, peeled, says = line.split("\0")
        found.append(TagReference(name, peeled or tagged, says if kind == "tag" else ""))
    return found


def files_of(repository: Repository, commit: str, folders: Sequence[str]) -> dict[str, str]:
    """Path to blob of every file below `folders` at `commit`."""
    told = repository.git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *folders)
    entries = (entry.split("\t", 1) for entry in told.split("\0") if entry)
    return {path: description.split(" ")[2] for description, path in entries}


def _commit_changes(fields: Sequence[str], changes: Iterable[FileChange]) -> CommitChanges:
    sha, parents, at, author, subject, trailers = fields
    commit = Commit(sha, datetime.fromisoformat(at), author, subject, parse_trailers(trailers))
    return CommitChanges(commit, tuple(parents.split()), tuple(changes))


def _file_change(description: str, path: str) -> FileChange:
    """description: a colon for each parent, the modes, the blobs, what was done."""
    parents = len(description) - len(description.lstrip(":"))
    blobs = [_blob(word) for word in description.split(" ")[parents + 1 : -1]]
    return FileChange(path, tuple(blobs[:-1]), blobs[-1])


def _blob(word: str) -> str | None:
    return word if word.strip("0") else None
