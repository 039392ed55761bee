"""`coalmine verify`: does the record hold? From Git alone; the DVC remote where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coalmine.audit.verify import data as dvc_data
from coalmine.audit.verify.cores import Cores
from coalmine.audit.verify.deliveries import delivery_findings, read_deliveries
from coalmine.audit.verify.evidence import evidence_findings, read_closings
from coalmine.audit.verify.findings import Finding, Scope
from coalmine.audit.verify.history import (
    by_hand_findings,
    pinned_findings,
    taken_back_findings,
    trailer_findings,
)
from coalmine.audit.verify.releases import decisions, read_releases, release_findings
from coalmine.audit.verify.signatures import required_signatures, signature_findings
from coalmine.audit.verify.snapshot import Snapshot
from coalmine.errors import NotFound
from coalmine.operations.workspace import Workspace
from coalmine.registry.trust import read_trust
from coalmine.spec import model_names


@dataclass(frozen=True)
class Verified:
    """releases, deliveries, rollouts, objects, signatures: how many were checked. not_checked: what was not
    looked at, each as a clause."""

    findings: tuple[Finding, ...]
    releases: int = 0
    deliveries: int = 0
    rollouts: int = 0
    objects: int = 0
    signatures: int = 0
    not_checked: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.findings

    @property
    def summary(self) -> str:
        """One sentence for people."""
        checked = (
            f"{self.releases:,} releases, {self.deliveries:,} changes of slots, {self.rollouts:,} rollouts"
            + (f", {self.signatures:,} signatures" if self.signatures else "")
            + (f" and {self.objects:,} objects" if self.objects else "")
        )
        number = len(self.findings)
        found = "they hold" if self.holds else f"{number:,} finding{'s' * (number > 1)}"
        left = f" Not checked: {'; '.join(self.not_checked)}." if self.not_checked else ""
        return f"Checked {checked}: {found}.{left}"


def verify(
    workspace: Workspace,
    model: str | None = None,
    environment: str | None = None,
    *,
    pinned: str | None = None,
    data: bool = False,
) -> Verified:
    """
    model, environment: default: all that ever were. pinned: the full id of a commit that was HEAD once.

    Raises:
        NotFound: no such model or environment, now or ever.
        InputError: `pinned` is no full id.
        RepositoryUnready: a shallow clone, or one that lacks files of its own history.
        RemoteUnavailable: with `data`, the DVC remote is away: run again.
        MachineUnready: a process that helped was ended: run again.
    """
    workspace.repository.require_whole_history()
    snapshot, scope = Snapshot(workspace.repository), Scope(model, environment)
    _require_known(workspace, snapshot, scope)
    with Cores() as cores:
        return _verified(workspace, snapshot, scope, cores, pinned=pinned, data=data)


def _verified(
    workspace: Workspace, snapshot: Snapshot, scope: Scope, cores: Cores, *, pinned: str | None, data: bool
) -> Verified:
    releases = read_releases(snapshot, cores)
    deliveries = read_deliveries(snapshot, scope, cores)
    closings = read_closings(snapshot, scope)
    trust = read_trust(workspace.repository)
    required = required_signatures(snapshot, deliveries, trust, scope)
    wanted = dvc_data.wanted_objects(snapshot, releases, scope) if data else []

    def findings() -> Iterator[Finding]:
        if pinned is not None:
            yield from pinned_findings(workspace.repository, snapshot, pinned)
        yield from by_hand_findings(snapshot, scope)
        yield from taken_back_findings(snapshot, scope)
        yield from trailer_findings(snapshot, scope)
        yield from release_findings(snapshot, releases, scope)
        yield from delivery_findings(snapshot, releases, deliveries, scope)
        yield from signature_findings(workspace.repository, snapshot, required, trust)
        yield from evidence_findings(snapshot, closings, cores)
        if wanted:
            with workspace.dvc.remote_objects() as read:
                yield from dvc_data.data_findings(wanted, read)

    uncomputable = sum(not closing.is_computable for closing in closings)
    return Verified(
        tuple(findings()),
        sum(entry.decision == "release" for entry in decisions(snapshot, scope)),
        len(deliveries),
        len(closings),
        len(wanted),
        len(required),
        tuple(_not_checked(snapshot, scope, uncomputable, pinned=pinned, data=data)),
    )


def _require_known(workspace: Workspace, snapshot: Snapshot, scope: Scope) -> None:
    """A name that nobody ever had would hold, of nothing."""
    models = {*model_names(workspace.top), *(c.of.name for e in snapshot.entries for c in e.changes)}
    environments = {c.of.environment for entry in snapshot.entries for c in entry.changes if c.of.environment}
    environments |= set(workspace.settings.environments)
    for what, name, known in (
        ("model", scope.model, models),
        ("environment", scope.environment, environments),
    ):
        if name is not None and name not in known:
            raise NotFound(f"There is no {what} {name}. There are: {', '.join(sorted(known)) or 'none'}.")


def _not_checked(
    snapshot: Snapshot, scope: Scope, uncomputable: int, *, pinned: str | None, data: bool
) -> Iterator[str]:
    if scope != Scope():
        yield "other models and environments"
    if not data:
        yield "the bytes in the DVC remote (--data)"
    if pinned is None:
        yield "whether history was made anew (--pinned COMMIT)"
    if uncomputable:
        yield f"the decisions of {uncomputable:,} rollouts that kept their counts alone"
    if snapshot.elsewhere:
        yield f"{len(snapshot.elsewhere):,} commits of other branches, which HEAD does not have"
