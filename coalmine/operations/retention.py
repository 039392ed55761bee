"""`coalmine gc`: what nothing needs any more, and its deletion.

    survey    what Git names, here and on the remote; what the DVC remote and cache hold beyond that
    record    what is to go from the DVC remote, in one commit, before the first of it goes
    survey    again, for what was named meanwhile
    delete    listings of folders before their files, then what can be made again on this machine

Needed is all that any commit names. No rule here knows releases from other commits, so that none can get
that wrong. Killed anywhere and run again, it goes on with what is left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from coalmine.audit.attribution import to_trailer
from coalmine.durable import replace_text
from coalmine.errors import NotFound
from coalmine.manifest import Trigger
from coalmine.operations import leftovers
from coalmine.operations.leftovers import Leftover
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import Change, publish
from coalmine.registry.dvc import Stores
from coalmine.registry.named_objects import named_objects
from coalmine.registry.object_stores import FOLDER, ObjectStore, StoredObject
from coalmine.registry.upstream import Upstream
from coalmine.settings import STATE

RECORDS = Path("retention")  # what was deleted from the DVC remote, a file for each time
_DAY_S = 86400.0


@dataclass(frozen=True)
class Surveyed:
    """One of DVC's stores.

    unneeded: nothing names them, and they are old enough. needed: how many are named. young: how many nothing
    names yet, and that are younger than that, or of an age that this kind of store does not tell.
    left: why nothing is deleted here, as a clause; "" where it is.
    """

    what: str
    address: str
    unneeded: tuple[StoredObject, ...]
    needed: int
    young: int
    left: str = ""

    @property
    def to_delete(self) -> tuple[StoredObject, ...]:
        return () if self.left else self.unneeded


@dataclass(frozen=True)
class Collected:
    """remote, cache: DVC's. here: what lies on this machine beside. commit: it says what went from the
    remote; None where nothing did."""

    unneeded_days: int
    remote: Surveyed
    cache: Surveyed
    here: tuple[Leftover, ...]
    deleted: bool = False
    commit: str | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.remote.to_delete or self.cache.to_delete or self.here)


def collect(workspace: Workspace, trigger: Trigger, tell: Tell, *, delete: bool = False) -> Collected:
    """What nothing needs any more; with `delete`, without it from now on.

    Raises:
        RepositoryUnready: a shallow or damaged clone, or one that is not on the branch of releases.
        NotFound: nobody has a listing that some commit names, so that nobody can say what that one needs.
        RemoteUnavailable: the Git or the DVC remote is away: run again.
        PushRejected: the Git remote takes no record of what is to be deleted; nothing was.
        AlreadyRunning: another collection in this clone, or another DVC command.
    """
    with workspace.alone("collect garbage", trigger.who):
        workspace.require_record()
        before_s = time.time() - workspace.settings.retention.unneeded_days * _DAY_S
        with workspace.dvc.stores() as stores:
            found = _survey(workspace, stores, before_s)
        if not delete or found.is_empty:
            return found
        commit = None
        if found.remote.to_delete:
            commit = _record(workspace, found.remote, trigger)
            tell(f"What goes from the DVC remote is written down in {commit[:12]}.")
        return replace(_delete(workspace, found, before_s), deleted=True, commit=commit)


# --- survey ----------------------------------------------------------------------------


def _survey(workspace: Workspace, stores: Stores, before_s: float) -> Collected:
    """Under DVC's lock, which `stores` holds: before it is free, a file here names what a stage has made."""
    retention, git = workspace.settings.retention, workspace.settings.git
    with Upstream(workspace.repository, git.remote, git.branch).all_references():
        named = named_objects(workspace.repository)
    both = (stores.remote, stores.cache)
    needed = _with_contents(both, named, retention.lost_listings)
    there = {store: store.digests() for store in both}
    unnamed = {store: store.describe(there[store] - needed) for store in both}
    young = {
        each.md5
        for objects in unnamed.values()
        for each in objects
        if each.written_at_s is None or each.written_at_s >= before_s
    }
    # An older file of a younger folder is not uploaded again: to DVC the listing says that it is there.
    young = _with_contents(both, young)
    surveyed = [
        Surveyed(
            what,
            store.address,
            tuple(each for each in unnamed[store] if each.md5 not in young),
            needed=len(there[store] & needed),
            young=sum(each.md5 in young for each in unnamed[store]),
            left=left,
        )
        for what, store, left in (
            ("DVC remote", stores.remote, _why_not_remote(workspace, stores.remote)),
            ("DVC cache", stores.cache, _why_not_cache(workspace, stores.cache)),
        )
    ]
    here = leftovers.leftovers(workspace, stores.runs, needed | young, before_s)
    return Collected(retention.unneeded_days, surveyed[0], surveyed[1], tuple(here))


def _with_contents(stores: Iterable[ObjectStore], digests: Set[str], lost: Iterable[str] = ()) -> set[str]:
    """`digests`, and those of the files in their folders.

    Raises:
        NotFound: no store has such a listing, and it is not among those that are `lost`.
    """
    found, missing = set(digests), []
    for folder in sorted(md5 for md5 in digests if md5.endswith(FOLDER)):
        listings = (store.listing(folder) for store in reversed(tuple(stores)))  # the cache is quicker
        files = next((listing for listing in listings if listing is not None), None)
        if files is not None:
            found |= files
        elif folder not in lost:
            missing.append(folder)
    if missing:
        raise NotFound(
            f"{len(missing)} folders of data are in use, and neither this machine nor the DVC remote has "
            f"their listing whole ({', '.join(missing[:5])}): nobody can say which files they need, so "
            "nothing was deleted. Whoever recorded them (git log --all -S DIGEST) must push them: dvc push. "
            "If they are lost for good, say so in coalmine.yaml: `retention: {lost_listings: [...]}`"
        )
    return found


def _why_not_remote(workspace: Workspace, remote: ObjectStore) -> str:
    if not remote.can_be_listed:
        return "this kind of remote does not say what it holds"
    if workspace.settings.retention.dvc_remote_is_ours or remote.is_below(workspace.top / STATE):
        return ""
    return (
        "another repository may keep objects there, of which this one's history knows nothing. If none does, "
        "say so in coalmine.yaml: `retention: {dvc_remote_is_ours: true}`"
    )


def _why_not_cache(workspace: Workspace, cache: ObjectStore) -> str:
    return "" if cache.is_below(workspace.top) else "it lies outside of this repository, so others may use it"


# --- record, delete --------------------------------------------------------------------


def _record(workspace: Workspace, remote: Surveyed, trigger: Trigger) -> str:
    """The commit that says what is to go, when and by whom."""
    untracked = workspace.repository.git("ls-files", "-z", "--others", "--", RECORDS.as_posix())
    for name in filter(None, untracked.split("\0")):
        (workspace.top / name).unlink()  # of a call that was killed before its commit: it deleted nothing
    now, total = datetime.now(UTC), sum(each.size_bytes for each in remote.to_delete)
    path = RECORDS / f"{now:%Y%m%dT%H%M%S}.jsonl"
    head = {
        "schema_version": 1,
        "at": now.isoformat(timespec="seconds"),
        "remote": remote.address,
        "unneeded_days": workspace.settings.retention.unneeded_days,
        "triggered_by": trigger.model_dump(mode="json"),
    }
    lines = [
        {"md5": each.md5, "size_bytes": each.size_bytes, "written": _moment(each.written_at_s)}
        for each in remote.to_delete
    ]
    (workspace.top / path).parent.mkdir(parents=True, exist_ok=True)
    replace_text(workspace.top / path, "".join(f"{json.dumps(line)}\n" for line in (head, *lines)))
    change = Change(
        paths=(path,),
        subject=f"Delete {len(lines):,} objects that nothing names from the DVC remote",
        body=f"{total:,} bytes. No commit of any branch, tag or pull request names them.",
        trailers={"Deleted": f"{len(lines)} objects", "Triggered-By": to_trailer(trigger)},
    )
    git = workspace.settings.git
    return publish(workspace.repository, change, git.remote, git.branch)


def _moment(at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


def _delete(workspace: Workspace, found: Collected, before_s: float) -> Collected:
    """Without what is named since; what went."""
    with workspace.dvc.stores() as stores:
        now = _survey(workspace, stores, before_s)
        gone = replace(
            found,
            remote=replace(found.remote, unneeded=_both(found.remote, now.remote)),
            cache=replace(found.cache, unneeded=_both(found.cache, now.cache)),
            here=tuple(each for each in found.here if each in now.here),
        )
        for store, surveyed in ((stores.remote, gone.remote), (stores.cache, gone.cache)):
            store.delete(each.md5 for each in surveyed.to_delete)
        for leftover in gone.here:
            leftovers.delete(workspace.top, leftover)
    return gone


def _both(one: Surveyed, other: Surveyed) -> tuple[StoredObject, ...]:
    still = {each.md5 for each in other.unneeded}
    return tuple(each for each in one.unneeded if each.md5 in still)
