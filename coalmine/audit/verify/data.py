"""The bytes behind the record: files of releases and partitions of their datasets, in the DVC remote.

Each object is read once, whole, past this machine's cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from coalmine.audit.verify.findings import Finding, Kind, Scope, Where
from coalmine.audit.verify.releases import Release, decisions
from coalmine.audit.verify.snapshot import Snapshot
from coalmine.errors import NotFound
from coalmine.manifest import ReleaseFile
from coalmine.registry.object_stores import FOLDER

Read = Callable[[str], Iterable[bytes]]  # an object of the remote by DVC's digest; raises NotFound
_AGAIN = "Whoever has it in their DVC cache, unharmed, can push it: dvc push. Else it is lost."


@dataclass(frozen=True)
class Wanted:
    """An object that the record names. what: of which it is the bytes, for people. file: what a manifest says
    of it."""

    md5: str
    commit: str
    what: str
    file: ReleaseFile | None = None

    @property
    def where(self) -> Where:
        return Where(self.commit, f"files/md5/{self.md5[:2]}/{self.md5[2:]}")


def wanted_objects(snapshot: Snapshot, releases: Mapping[str, Release], scope: Scope) -> list[Wanted]:
    """Once each: what releases hold, and the listings of the datasets that decisions name."""
    found: dict[tuple[str, str], Wanted] = {}
    for entry in decisions(snapshot, scope):
        commit = entry.commit
        release = releases.get(commit.sha)
        for file in () if release is None else release.files:
            what = f"{file.path} of {release.model} {release.version}" if release else ""
            found.setdefault((file.md5, file.sha256), Wanted(file.md5, commit.sha, what, file))
        for dataset in filter(None, commit.trailers.get("Dataset", "").split(", ")):
            name, _, md5 = dataset.partition(" ")
            found.setdefault((md5, ""), Wanted(md5, commit.sha, f"the listing of data/{name}/partitions"))
    return list(found.values())


def data_findings(wanted: Iterable[Wanted], read: Read) -> Iterator[Finding]:
    """
    Raises:
        RemoteUnavailable: safe to repeat.
    """
    seen: set[str] = set()
    for each in sorted(wanted, key=lambda each: each.md5.endswith(FOLDER)):  # the listings last
        if each.md5.endswith(FOLDER):
            yield from _folder(each, read, seen)
        else:
            seen.add(each.md5)
            yield from _object(each, read)


def _folder(listing: Wanted, read: Read, seen: set[str]) -> Iterator[Finding]:
    """A dataset's listing, and the partitions in it that no other listing has named yet."""
    try:
        content = b"".join(read(listing.md5))
    except NotFound:
        yield _missing(listing)
        return
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != listing.md5.removesuffix(FOLDER):
        yield _other(listing, listing.md5, hashlib.md5(content, usedforsecurity=False).hexdigest())
        return
    for file in json.loads(content):
        if file["md5"] not in seen:
            seen.add(file["md5"])
            folder = listing.what.removeprefix("the listing of ")
            yield from _object(Wanted(file["md5"], listing.commit, f"{folder}/{file['relpath']}"), read)


def _object(wanted: Wanted, read: Read) -> Iterator[Finding]:
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    try:
        for piece in read(wanted.md5):
            md5.update(piece)
            sha256.update(piece)
            size += len(piece)
    except NotFound:
        yield _missing(wanted)
        return
    if md5.hexdigest() != wanted.md5:
        yield _other(wanted, f"the md5 {wanted.md5}", f"{md5.hexdigest()}, {size} bytes")
    elif wanted.file is not None and (sha256.hexdigest(), size) != (
        wanted.file.sha256,
        wanted.file.size_bytes,
    ):
        expected = f"the sha256 {wanted.file.sha256}, {wanted.file.size_bytes} bytes"
        yield _other(wanted, expected, f"{sha256.hexdigest()}, {size} bytes")


def _missing(wanted: Wanted) -> Finding:
    return Finding(Kind.OBJECT_MISSING, wanted.where, wanted.what, "no such object in the DVC remote", _AGAIN)


def _other(wanted: Wanted, expected: str, seen: str) -> Finding:
    remedy = f"Nothing of it will be served. {_AGAIN}"
    return Finding(Kind.OBJECT_BYTES, wanted.where, f"{wanted.what}: {expected}", seen, remedy)
