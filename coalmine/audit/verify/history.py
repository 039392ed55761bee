"""Git's own chain: nothing was dropped since a head that somebody kept, and coalmine alone writes the record.

Who may change which file is told by the trailers of the commit that does; what those commits say is checked
by the other modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from coalmine.audit.rollout_record import ENDINGS
from coalmine.audit.verify.findings import Finding, Kind, Scope, Where, by_whom
from coalmine.audit.verify.snapshot import Change, Snapshot, Written, slots_in
from coalmine.errors import InputError
from coalmine.registry.repository import Repository
from coalmine.slots import Slots

_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OF_THE_RECORD = (Written.MANIFEST, Written.DECISION, Written.SLOTS, Written.EVIDENCE)
_MOVES = {"candidate", "promoted", "rejected", "rolled-back"}
_ALWAYS = ("Model", "Version", "Triggered-By")
_TRAILERS = {
    "release": (*_ALWAYS, "Dataset", "Lock", "Digest"),
    "keep": (*_ALWAYS, "Dataset", "Lock"),
    "candidate": (*_ALWAYS, "Environment", "Digest", "Rollout"),
    "promoted": (*_ALWAYS, "Environment", "Digest", "Release", "Rollout", "Assignment"),
    "rejected": (*_ALWAYS, "Environment", "Digest", "Release", "Rollout"),
    "rolled-back": (*_ALWAYS, "Environment", "Digest", "Rolled-Back"),
}


def is_recorded(change: Change) -> bool:
    """Whether the commit says that it is coalmine's, and about this file."""
    trailers, of = change.commit.trailers, change.of
    decision = trailers.get("Decision")
    if change.is_merge or trailers.get("Model") != of.name:
        return False
    match of.written:
        case Written.MANIFEST:
            return decision == "release"
        case Written.DECISION:
            return decision in ("release", "keep")
        case Written.SLOTS:
            # One that is put there to go back to is no decision yet.
            is_put = decision is None and {"Version", "Digest"} <= trailers.keys()
            return trailers.get("Environment") == of.environment and (decision in _MOVES or is_put)
        case Written.EVIDENCE:
            return decision in ENDINGS and trailers.get("Rollout") == of.rollout and change.before is None
        case Written.LOCK | Written.POINTER:
            return True


def pinned_findings(repository: Repository, snapshot: Snapshot, pinned: str) -> Iterator[Finding]:
    """
    pinned: the full id of a commit that was HEAD, or below it, when it was written down elsewhere.

    Raises:
        InputError: it is no full id; a shorter one, or a name, may come to mean another commit.
    """
    if not _FULL_ID.fullmatch(pinned):
        raise InputError(
            f"`{pinned}` is no full commit id. Give the 40 hexadecimal digits of git rev-parse HEAD"
        )
    if any(entry.commit.sha == pinned for entry in snapshot.entries):
        return
    common = repository.try_git("merge-base", pinned, snapshot.head)
    seen = (
        f"a history that leaves that one after commit {common.text[:12]}"
        if common.status == 0 and common.text
        else "a history without it"
    )
    yield Finding(
        Kind.REWRITTEN,
        Where(commit=snapshot.head),
        f"a history that goes on from the pinned commit {pinned[:12]}",
        seen,
        f"Commits were dropped or made anew, or this clone is behind (git pull). Look for a clone that has "
        f"the commit: git log {pinned[:12]}.",
    )


def by_hand_findings(snapshot: Snapshot, scope: Scope) -> Iterator[Finding]:
    """Changes of the record by commits that are not coalmine's."""
    changed = [
        change
        for change in snapshot.changes(*_OF_THE_RECORD)
        if scope.has(change.of.name, change.of.environment) and not is_recorded(change)
    ]
    for change in changed:
        if change.of.written is Written.EVIDENCE:
            yield _evidence_changed(change)
        elif not _is_first_slots(snapshot, change):
            yield _by_hand(snapshot, change)


def trailer_findings(snapshot: Snapshot, scope: Scope) -> Iterator[Finding]:
    """Commits that tell a decision, and not all that belongs to it."""
    for entry in snapshot.entries:
        trailers = entry.commit.trailers
        missing = [name for name in _TRAILERS.get(entry.decision or "", ()) if not trailers.get(name)]
        if missing and scope.has(trailers.get("Model", ""), trailers.get("Environment")):
            yield Finding(
                Kind.TRAILERS,
                Where(entry.commit.sha),
                f"every trailer of the decision `{entry.decision}`",
                f"none of {', '.join(missing)} {by_whom(entry.commit)}",
                "coalmine writes all of them: somebody else made this commit. Ask them.",
            )


def taken_back_findings(snapshot: Snapshot, scope: Scope) -> Iterator[Finding]:
    """What a commit left is what the next one finds, and HEAD: else a merge has dropped it."""
    standing: dict[str, Change] = {}
    for change in snapshot.changes(*_OF_THE_RECORD):
        if not scope.has(change.of.name, change.of.environment):
            continue
        last = standing.get(change.path)
        if last is not None and not change.is_merge and change.before != last.after:
            yield _taken_back(last, change.commit.sha)
        standing[change.path] = change
    for path, last in standing.items():
        if snapshot.files.get(path) != last.after:
            yield _taken_back(last, snapshot.head)


def _evidence_changed(change: Change) -> Finding:
    done = "changed" if change.before and change.after else "added" if change.after else "removed"
    return Finding(
        Kind.EVIDENCE_CHANGED,
        Where(change.commit.sha, change.path),
        f"the evidence of rollout {change.of.rollout} as its closing commit holds it",
        f"{done} {by_whom(change.commit)}",
        f"Ask them why; take it back: git show {change.commit.sha[:12]}^:{change.path}."
        if change.before
        else "Ask them why, and take it away: it is no part of what the rollout left.",
    )


def _by_hand(snapshot: Snapshot, change: Change) -> Finding:
    if change.of.written is Written.SLOTS:
        what = f" ({_serves(snapshot, change.before)}, then {_serves(snapshot, change.after)})"
    else:
        what = "" if change.after else " (removed)"
    return Finding(
        Kind.BY_HAND,
        Where(change.commit.sha, change.path),
        "a file that coalmine alone writes, in commits that say why",
        f"a change {by_whom(change.commit)}{what}",
        f"Ask them why; see what they did: git show {change.commit.sha[:12]} -- {change.path}. "
        "What follows is checked from there on.",
    )


def _taken_back(last: Change, at: str) -> Finding:
    return Finding(
        Kind.TAKEN_BACK,
        Where(at, last.path),
        f"what commit {last.commit.sha[:12]} left there",
        "something else, and no commit that changed it",
        f"A merge kept another side: git log --merges {last.commit.sha[:12]}..{at[:12]}.",
    )


def _is_first_slots(snapshot: Snapshot, change: Change) -> bool:
    """The file that `coalmine new environment` writes for people to commit: it puts nothing anywhere."""
    if change.of.written is not Written.SLOTS or change.before is not None or change.is_merge:
        return False
    slots = _slots(snapshot, change.after)
    return slots is not None and not slots.releases


def _slots(snapshot: Snapshot, blob: str | None) -> Slots | None:
    if blob is None:
        return None
    (content,) = snapshot.contents([blob])
    return slots_in(content)


def _serves(snapshot: Snapshot, blob: str | None) -> str:
    if blob is None:
        return "no file"
    slots = _slots(snapshot, blob)
    if slots is None:
        return "a file that cannot be read"
    return "nothing served" if slots.stable_release is None else f"{slots.stable_release.version} served"
