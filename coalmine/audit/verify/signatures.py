"""Who signed the record, where signatures are required: releases, what was done to slots, and their tags.

An environment's requirement holds for all commits but that which first made it, and those below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coalmine.audit.verify.deliveries import Delivery
from coalmine.audit.verify.findings import Finding, Kind, Scope, Where
from coalmine.audit.verify.history import is_recorded
from coalmine.audit.verify.snapshot import Entry, Snapshot, Written
from coalmine.registry.repository import Repository
from coalmine.registry.signed_objects import read_signed
from coalmine.registry.tags import parse_assignment, release_tag
from coalmine.registry.trust import Trust
from coalmine.signatures.signers import ALLOWED, Checked, Standing

_KINDS = {
    Standing.UNSIGNED: Kind.UNSIGNED,
    Standing.BROKEN: Kind.SIGNATURE,
    Standing.UNKNOWN: Kind.SIGNER,
    Standing.REVOKED: Kind.SIGNER,
    Standing.OUTSIDE: Kind.SIGNER,
}


@dataclass(frozen=True)
class Required:
    """commits, tags: the names of those that must be signed; tags to the commit that each stands on."""

    commits: tuple[str, ...]
    tags: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.commits) + len(self.tags)


def required_signatures(
    snapshot: Snapshot, deliveries: Sequence[Delivery], trust: Trust, scope: Scope
) -> Required:
    if not trust.required_since:
        return Required((), {})
    before = {name: _ancestors(snapshot, since) for name, since in trust.required_since.items()}
    of_releases = frozenset.intersection(*before.values())
    commits, tags = [], {}
    for entry in snapshot.entries:
        if entry.decision in ("release", "keep"):
            model = entry.commit.trailers.get("Model", "")
            if scope.has(model) and entry.commit.sha not in of_releases:
                commits.append(entry.commit.sha)
                if entry.decision == "release":
                    tags[release_tag(model, entry.commit.trailers.get("Version", ""))] = entry.commit.sha
        elif _is_required(entry, before, scope):
            commits.append(entry.commit.sha)
    tags.update(_assignments(snapshot, deliveries, before, scope))
    standing = {name: commit for name, commit in tags.items() if name in snapshot.tags}
    return Required(
        tuple(commits), {name: commit for name, commit in standing.items() if snapshot.tags[name].says}
    )


def signature_findings(
    repository: Repository, snapshot: Snapshot, required: Required, trust: Trust
) -> Iterator[Finding]:
    yield from (_changed(each.commit, each.paths, each.seen) for each in trust.unproven)
    if trust.required_since and trust.signers is None:
        yield Finding(
            Kind.ALLOWED,
            Where(snapshot.head, str(ALLOWED)),
            "a list of those who may sign, signed by one of them",
            "none that counts",
            f"Write {ALLOWED} and git commit -S, or take the requirement out of coalmine.yaml.",
        )
    for commit, signed in zip(required.commits, read_signed(repository, required.commits), strict=True):
        yield from _checked(signed.checked(trust.listed), Where(commit))
    names = [f"refs/tags/{name}" for name in required.tags]
    for (name, commit), signed in zip(required.tags.items(), read_signed(repository, names), strict=True):
        yield from _checked(signed.checked(trust.listed), Where(commit, tag=name))


def _is_required(entry: Entry, before: Mapping[str, frozenset[str]], scope: Scope) -> bool:
    """Whether it did something to the slots of an environment that required signatures by then."""
    return any(
        change.of.written is Written.SLOTS
        and entry.commit.sha not in before.get(change.of.environment or "", {entry.commit.sha})
        and scope.has(change.of.name, change.of.environment)
        and is_recorded(change)
        for change in entry.changes
    )


def _assignments(
    snapshot: Snapshot, deliveries: Sequence[Delivery], before: Mapping[str, frozenset[str]], scope: Scope
) -> Iterator[tuple[str, str]]:
    """The tags of promotions and ways back since the requirement."""
    earlier: defaultdict[tuple[str, str], int] = defaultdict(int)
    for delivery in deliveries:
        environment, model = delivery.place
        is_assigned = delivery.trailers.get("Decision") in ("promoted", "rolled-back")
        if is_assigned and delivery.change.commit.sha in before.get(environment, ()):
            earlier[environment, model] += 1
    for tag in snapshot.tags.values():
        assigned = parse_assignment(tag.name)
        if assigned is None or not scope.has(assigned.model, assigned.environment):
            continue
        if assigned.environment in before and assigned.number > earlier[assigned.environment, assigned.model]:
            yield tag.name, tag.commit


def _ancestors(snapshot: Snapshot, commit: str) -> frozenset[str]:
    """`commit` and all below it."""
    parents = {entry.commit.sha: entry.parents for entry in snapshot.entries}
    found, left = {commit}, [commit]
    while left:
        for parent in parents.get(left.pop(), ()):
            if parent not in found:
                found.add(parent)
                left.append(parent)
    return frozenset(found)


def _checked(checked: Checked, where: Where) -> Iterator[Finding]:
    if not checked.is_good:
        shown = f"'{where.tag}'" if where.tag else (where.commit or "")[:12]
        remedy = f"Ask who made it, and look at what it does: git show {shown}."
        yield Finding(
            _KINDS[checked.standing], where, f"a signature of somebody in {ALLOWED}", checked.words, remedy
        )


def _changed(commit: str, paths: Sequence[str], seen: str) -> Finding:
    return Finding(
        Kind.ALLOWED,
        Where(commit, ", ".join(paths)),
        "a change signed by somebody who was allowed before it",
        seen,
        "It does not count. Somebody allowed takes it back (git revert -S), or changes the file in a commit "
        "that they sign.",
    )
