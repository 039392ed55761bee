"""One rollout's journal on a cluster: the cluster is the truth, the folder a copy of it on this machine.

Each state is saved to the cluster first, so no folder is ever ahead of it. The lease says who drives the
rollout; the store refuses whoever drove it before, should that one not know yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coalmine.cluster.client import Cluster, ClusterUnavailable
from coalmine.cluster.lease import Held, Lease, Leases, new_identity
from coalmine.durable import replace_text
from coalmine.errors import AlreadyRunning, JournalUnavailable, NotFound
from coalmine.journals.cluster_objects import ROLLOUT, asks_name, labels, rollout_name
from coalmine.journals.cluster_store import ClusterStore, Kept
from coalmine.journals.journal import FileJournal, request_of
from coalmine.journals.shared_lines import SharedLines
from coalmine.journals.working_copy import Copy, bring_up_to_date
from coalmine.rollout.ports import Request
from coalmine.rollout.written import request_to_json

HOLDER = "holder"  # beside the folder's lease: the identity by which this clone drove last
FOLLOWED_EVERY_S = 1.0


@dataclass
class _Driving:
    """This process drives the rollout, until a save is `refused`. given: how many of the asks it has seen."""

    local: FileJournal
    held: Held
    kept: Kept
    given: int
    refused: AlreadyRunning | None = None


class ClusterJournal:
    """The Journal port of the rollout of `folder`, which was published.

    Raises, wherever it asks the cluster and nothing else is said:
        ClusterUnavailable, ClusterRefuses: as `Cluster`.
    """

    def __init__(self, folder: Path, cluster: Cluster, leases: Leases) -> None:
        self._folder = folder
        self._model = folder.parent.name
        self._store = ClusterStore(cluster, self._model)
        self._leases = leases
        self._asks = SharedLines(cluster, asks_name(self._model), self._model, folder.name)
        self._driving: _Driving | None = None
        self._followed_s = float("-inf")

    @contextmanager
    def lease(self) -> Iterator[None]:
        """On this machine first, then on the cluster; then the folder is as the cluster has it.

        Raises:
            Conflict: another rollout of the model is in its place: this one is over.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        local = FileJournal(self._folder)
        with local.lease(), self._held() as held:
            kept = self._store.claim(self._folder.name, held.identity)
            Copy.of(self._store, kept, self._folder).write()
            self._driving = _Driving(local, held, kept, kept.taken)
            try:
                yield
            finally:
                self._driving = None

    @contextmanager
    def _held(self) -> Iterator[Held]:
        memory = self._folder.parent / HOLDER
        # Whoever drove from this clone had the lease that this process has now: it has ended.
        dead = memory.read_text(encoding="utf-8") if memory.exists() else ""
        identity = new_identity(self._folder.name)
        marks = labels(self._model, self._folder.name)
        with self._leases.held(rollout_name(self._model), identity, marks, self._refusal, dead) as held:
            replace_text(memory, identity)
            yield held

    def _refusal(self, lease: Lease) -> str:
        model, environment = self._model, self._folder.parent.parent.name
        return (
            f"A rollout of {model} in {environment} is running already (rollout {lease.held_by}). "
            f"Follow it with `coalmine status`, or end it with `coalmine abort {model}`."
        )

    def load(self) -> dict[str, Any] | None:
        """Of one who drives the rollout, what it saved last; else what whoever drives it saved, a second ago
        at most."""
        if self._driving is None and time.monotonic() - self._followed_s >= FOLLOWED_EVERY_S:
            self._follow()
            self._followed_s = time.monotonic()
        return FileJournal(self._folder).load()

    def _follow(self) -> None:
        kept = self._store.read()
        if kept is not None and kept.rollout == self._folder.name:
            bring_up_to_date(self._folder, self._store, kept)

    def save(self, state: Mapping[str, object]) -> None:
        driving = self._required()
        try:
            driving.kept = self._store.write(driving.kept.with_saved(state, driving.given))
        except ClusterUnavailable as error:
            raise JournalUnavailable(f"The rollout's state cannot be saved. {error}") from error
        except AlreadyRunning as error:
            driving.refused = error
            raise
        driving.local.save(state)

    def append_event(self, event: Mapping[str, object]) -> None:
        """The cluster has it already, in the outbox of the saved state."""
        self._required().local.append_event(event)

    def append_tick(self, tick: Mapping[str, object]) -> None:
        self._required().local.append_tick(tick)

    def _required(self) -> _Driving:
        """
        Raises:
            AlreadyRunning: the lease is another one's.
        """
        assert self._driving is not None, "only under the lease"
        if self._driving.refused is not None:
            raise self._driving.refused
        self._driving.held.require()
        return self._driving

    def take_requests(self) -> Sequence[Request]:
        """None while the cluster does not answer: they wait there, and the save that comes next says so."""
        driving = self._required()
        driving.given = driving.kept.taken
        try:
            asks = self._asks.read()
        except ClusterUnavailable:
            return ()
        driving.given = len(asks)
        return [request_of(ask, f"ConfigMap {asks_name(self._model)}") for ask in asks[driving.kept.taken :]]

    def ask(self, request: Request) -> None:
        """Leave `request` for the runner, which takes it at its next poll.

        Raises:
            NotFound: there is no such rollout, or another one came after it.
        """
        lease = self._leases.look(rollout_name(self._model))
        if lease is None or lease.labels.get(ROLLOUT) != self._folder.name:
            raise NotFound(f"{self._folder.name} is no rollout of {self._model} that runs: coalmine status")
        self._asks.add(request_to_json(request))
