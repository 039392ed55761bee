"""What one commit did, and which releases stand on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from coalmine.audit.deeds import Deed, who_of
from coalmine.audit.ledger import Ledger
from coalmine.errors import InputError, NotFound
from coalmine.manifest import Trigger, manifest_path
from coalmine.registry.repository import Commit

_CODE = re.compile(rb"^code: '?([0-9a-f]{40})'?$", re.MULTILINE)


@dataclass(frozen=True)
class Built:
    """A release that was built from the commit's code."""

    model: str
    version: str
    released: datetime
    commit: str


@dataclass(frozen=True)
class CommitStory:
    """deeds: what the commit records, by its trailers or by what it did to a slots file."""

    commit: str
    at: datetime
    author: str
    who: Trigger
    subject: str
    deeds: tuple[Deed, ...]
    built: tuple[Built, ...]


def by_commit(ledger: Ledger, asked: str) -> CommitStory:
    """
    asked: a commit's hash, or its first digits.

    Raises:
        InputError: it names several commits, or is no hash.
        NotFound: the record of this clone has no such commit.
    """
    commit = _commit(ledger, asked)
    deeds = tuple(deed for deed in ledger.deeds if deed.commit == commit.sha)
    built = tuple(_built(ledger, commit.sha))
    return CommitStory(commit.sha, commit.at, commit.author, who_of(commit), commit.subject, deeds, built)


def _commit(ledger: Ledger, asked: str) -> Commit:
    if not re.fullmatch(r"[0-9a-fA-F]{4,40}", asked):
        raise InputError(f"{asked} is no commit's hash: give 4 to 40 of its digits, as git log prints them.")
    found = [commit for commit in ledger.commits if commit.sha.startswith(asked.lower())]
    if not found:
        newest = ledger.commits[-1]
        raise NotFound(
            f"No commit {asked} leads to the head of this clone. The newest is {newest.sha[:12]} of "
            f"{newest.at:%Y-%m-%d}: is this clone older than that commit (git pull)?"
        )
    if len(found) > 1:
        several = ", ".join(commit.sha[: len(asked) + 4] for commit in found[:5])
        raise InputError(f"{len(found)} commits begin with {asked}: {several}. Give more digits.")
    return found[0]


def _built(ledger: Ledger, code: str) -> Iterator[Built]:
    names = [f"{commit.sha}:{manifest_path(commit.trailers['Model'])}" for commit in ledger.releases]
    for commit, text in zip(ledger.releases, ledger.repository.read_all(names), strict=True):
        found = _CODE.search(text or b"")
        if found is not None and found[1].decode() == code:
            yield Built(commit.trailers["Model"], commit.trailers["Version"], commit.at, commit.sha)
