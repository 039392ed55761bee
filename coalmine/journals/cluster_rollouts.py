"""The rollouts of a cluster's environment, which any machine may drive that reaches the cluster and Git."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from coalmine.cluster.client import Cluster, Stale
from coalmine.cluster.lease import Lease, Leases, Terms
from coalmine.durable import replace_text
from coalmine.errors import AlreadyRunning, Conflict
from coalmine.journals import journal
from coalmine.journals.cluster_journal import ClusterJournal
from coalmine.journals.cluster_objects import ROLLOUT, labels, model_of, notices_name, rollout_name
from coalmine.journals.cluster_store import ClusterStore, Kept
from coalmine.journals.journal import ABOUT, PLAN
from coalmine.journals.lines import Lines
from coalmine.journals.runner_lock import LeaseRunnerLock, RunnerLock
from coalmine.journals.shared_lines import SharedLines
from coalmine.journals.working_copy import bring_up_to_date
from coalmine.registry.commits import catch_up
from coalmine.registry.repository import Repository
from coalmine.rollout.ports import Request
from coalmine.settings import STATE, GitSettings


class ClusterRollouts:
    """Of `environment`, whose models are in the namespace of `cluster`."""

    are_shared = True

    def __init__(
        self,
        cluster: Cluster,
        repository: Repository,
        git: GitSettings,
        environment: str,
        terms: Terms | None = None,
    ) -> None:
        self._cluster = cluster
        self._repository = repository
        self._git = git
        self._environment = environment
        self._leases = Leases(cluster, terms)
        self._copied: dict[str, Lease] = {}  # by model: as it was when the folder was made new
        self.runner: RunnerLock = LeaseRunnerLock(self._leases, environment)

    # --- which there are -------------------------------------------------------------------

    def folders(self, model: str) -> list[Path]:
        return journal.rollouts(self._repository.top, self._environment, model)

    def at_hand(self, model: str) -> list[Path]:
        kept = self._copy(model)
        return [] if kept is None or kept.has_ended else [self._folder(model, kept.rollout)]

    def undriven(self) -> Iterator[Path]:
        """One request for all models, and more only for those whose lease changed hands."""
        for lease in self._leases.list(labels()):
            model, rollout = model_of(lease.labels), lease.labels.get(ROLLOUT, "")
            if lease.is_held(self._leases.terms):
                continue
            if not self._is_copied(model, lease):
                kept = self._copy(model)
                if kept is None or kept.rollout != rollout:
                    continue  # it is just being published, and a lease is written first
                self._copied[model] = lease
            if (self._folder(model, rollout) / ABOUT).exists():
                yield self._folder(model, rollout)

    def _is_copied(self, model: str, lease: Lease) -> bool:
        before = self._copied.get(model)
        return before is not None and (before.labels, before.holder, before.renewed) == (
            lease.labels,
            lease.holder,
            lease.renewed,
        )

    def refresh(self, model: str) -> None:
        self._copy(model)

    def catch_up(self) -> None:
        catch_up(self._repository, self._git.remote, self._git.branch)

    def _copy(self, model: str) -> Kept | None:
        store = ClusterStore(self._cluster, model)
        kept = store.read()
        if kept is not None:
            bring_up_to_date(self._folder(model, kept.rollout), store, kept)
        return kept

    def _folder(self, model: str, rollout: str) -> Path:
        return self._repository.top / STATE / "rollouts" / self._environment / model / rollout

    # --- one of them -----------------------------------------------------------------------

    def publish(self, folder: Path) -> None:
        model, rollout = folder.parent.name, folder.name
        store = ClusterStore(self._cluster, model)
        files = {name: (folder / name).read_text(encoding="utf-8") for name in (ABOUT, PLAN)}
        while (there := store.read()) is None or there.rollout != rollout:
            self._require_over(there, folder)
            # The lease first: whoever looks for rollouts looks at leases.
            self._leases.declare(rollout_name(model), labels(model, rollout))
            with suppress(Stale):  # somebody wrote there meanwhile: look again
                store.put(Kept(rollout, files), before=there)
        store.drop_others(rollout)

    def _require_over(self, there: Kept | None, folder: Path) -> None:
        if there is None or there.has_ended:
            return
        lease = self._leases.look(rollout_name(folder.parent.name))
        if lease is not None and lease.is_held(self._leases.terms):
            raise AlreadyRunning(f"A rollout of {folder.parent.name} is running already ({lease.held_by}).")
        if there.rollout > folder.name:
            raise Conflict(
                f"Rollout {there.rollout} of {folder.parent.name} came after {folder.name} and has not "
                "ended. Look: coalmine status"
            )

    def journal(self, folder: Path) -> ClusterJournal:
        return ClusterJournal(folder, self._cluster, self._leases)

    def is_driven(self, folder: Path) -> bool:
        lease = self._leases.look(rollout_name(folder.parent.name))
        return lease is not None and lease.is_held(self._leases.terms)

    def ask(self, folder: Path, request: Request) -> None:
        self.journal(folder).ask(request)

    def notices(self, folder: Path) -> Lines:
        model = folder.parent.name
        return SharedLines(self._cluster, notices_name(model), model, folder.name)

    def leave(self, folder: Path, name: str, text: str) -> None:
        replace_text(folder / name, text)
        ClusterStore(self._cluster, folder.parent.name).leave(folder.name, name, text)
