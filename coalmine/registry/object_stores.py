"""DVC's stores of objects, the remote and this machine's cache: what lies there, since when; deleting it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coalmine.registry.faults import without_credentials

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB

FOLDER = ".dir"  # what ends DVC's digest of a folder: the md5 of its listing
_AT_ONCE = 500  # objects of one request, where a kind of remote deletes many by one
# How the kinds of remote call the time at which an object was written.
_WRITTEN = ("mtime", "LastModified", "last_modified", "modified", "updated")


@dataclass(frozen=True)
class StoredObject:
    """written_at_s: in seconds since 1970; None: this kind of remote does not say."""

    md5: str
    size_bytes: int
    written_at_s: float | None


class ObjectStore:
    """
    reaching: turns the errors of the store's library into ours.

    Raises, wherever the store is asked:
        RemoteUnavailable: safe to repeat.
        MachineUnready: this machine's disk or rights.
    """

    def __init__(
        self,
        odb: HashFileDB,
        reaching: Callable[[], AbstractContextManager[None]],
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        """forget: drops what DVC remembers of the store's contents."""
        self._odb = odb
        self._reaching = reaching
        self._forget = forget

    @property
    def address(self) -> str:
        return without_credentials(self._odb.fs.unstrip_protocol(self._odb.path))

    @property
    def can_be_listed(self) -> bool:
        return bool(self._odb.fs.CAN_TRAVERSE)

    def is_below(self, folder: Path) -> bool:
        """Whether it is a folder below that one."""
        return self._odb.fs.protocol == "local" and Path(self._odb.path).resolve().is_relative_to(
            folder.resolve()
        )

    def digests(self) -> set[str]:
        """Of all objects; empty where there is no store yet, or it cannot be listed."""
        if not self.can_be_listed:
            return set()
        with self._reaching():
            return set(self._odb.all()) if self._odb.fs.exists(self._odb.path) else set()

    def describe(self, digests: Iterable[str]) -> list[StoredObject]:
        """Those of `digests` that are there."""
        asked = sorted(digests)
        with self._reaching():
            found = self._odb.fs.info([self._odb.oid_to_path(md5) for md5 in asked], return_exceptions=True)
            described = []
            for md5, info in zip(asked, found, strict=True):
                if isinstance(info, FileNotFoundError):
                    continue  # deleted by another hand meanwhile
                if isinstance(info, Exception):
                    raise info
                described.append(StoredObject(md5, int(info.get("size") or 0), _written_at_s(info)))
            return described

    def listing(self, md5: str) -> set[str] | None:
        """The digests of the folder's files; None: the store has no such listing, or not with those bytes."""
        with self._reaching():
            try:
                content = self._odb.fs.cat_file(self._odb.oid_to_path(md5))
            except FileNotFoundError:
                return None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(FOLDER):
            return None
        return {file["md5"] for file in json.loads(content)}

    def delete(self, digests: Iterable[str]) -> None:
        """Listings before files: to DVC a listing that is there says that its files are."""
        wanted = sorted(digests, key=lambda md5: (not md5.endswith(FOLDER), md5))
        with self._reaching():
            for first in range(0, len(wanted), _AT_ONCE):
                self._delete(wanted[first : first + _AT_ONCE])
            self._forget()

    def _delete(self, digests: Sequence[str]) -> None:
        paths = [self._odb.oid_to_path(md5) for md5 in digests]
        try:
            self._odb.fs.remove(paths)
        except FileNotFoundError:  # another hand was quicker with one of them: one by one
            for path in paths:
                if self._odb.fs.exists(path):
                    self._odb.fs.remove(path)


def _written_at_s(info: Any) -> float | None:
    said = next((info[name] for name in _WRITTEN if info.get(name) is not None), None)
    match said:
        case int() | float():
            return float(said)
        case datetime():
            return (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
        case str():
            try:
                at = datetime.fromisoformat(said)
            except ValueError:
                return None
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        case _:
            return None
