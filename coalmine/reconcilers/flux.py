"""Flux makes what Git says run: this asks it to look now, and waits until it has.

The source is asked first, then the Kustomization, as `flux reconcile kustomization --with-source` does.
What each state of Flux means, and the remedy, stands in `flux_state`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath

from coalmine.cluster.client import Cluster, ClusterRefuses, ClusterUnavailable, Json
from coalmine.cluster.kinds import GIT_REPOSITORY, KUSTOMIZATION, Kind
from coalmine.drift.facts import FluxFacts
from coalmine.errors import ReconcilerUnavailable, Unsupported
from coalmine.reconcilers import flux_state
from coalmine.reconcilers.deployed import Deployed
from coalmine.rollout.ports import SlotStatus
from coalmine.settings import FluxSettings
from coalmine.slots import Slot, Slots

TAKEN_UP_WITHIN_S = 60.0
AT_WORK_FOR_S = 240.0  # more, while it says so: an environment of many models, changed by many at once
_POLL_S, _LONGEST_POLL_S = 0.25, 2.0
_ASK_AGAIN_S = 2.0  # a remote of several machines may show a push later than it took it

_IsDone = Callable[[Json, str], bool]  # of the object as it is, and when it was asked


@dataclass(frozen=True)
class Pushed:
    """What coalmine pushes, for Flux to fetch.

    branch: of the Git remote. commit: the newest one that was pushed, when it is asked.
    is_before: whether a commit is one that another one follows.
    """

    branch: str
    commit: Callable[[], str]
    is_before: Callable[[str, str], bool]


class _Deadline:
    """`within_s` seconds from now on, and up to `AT_WORK_FOR_S` more in which Flux was at work."""

    def __init__(self, within_s: float) -> None:
        self.allowed_s = within_s
        self._began_s = time.monotonic()
        self._longest_s = within_s + AT_WORK_FOR_S

    def was_at_work(self, seconds: float) -> None:
        self.allowed_s = min(self.allowed_s + seconds, self._longest_s)

    def is_over(self, in_s: float = 0.0) -> bool:
        return time.monotonic() + in_s - self._began_s > self.allowed_s


class FluxReconciler:
    """The reconciler of `model` in the namespace of `cluster`."""

    def __init__(
        self,
        cluster: Cluster,
        model: str,
        settings: FluxSettings,
        pushed: Pushed,
        within_s: float = TAKEN_UP_WITHIN_S,
    ) -> None:
        self._deployed = Deployed(cluster, model)
        self._flux = cluster.in_namespace(settings.namespace)
        self._name = settings.kustomization
        self._pushed = pushed
        self._within_s = within_s

    def reconcile(self, slots: Slots) -> None:
        """Until Flux has applied the commit that was pushed, or one of somebody else that follows it.

        While a rollout runs, where both slots run what they should, Flux may be as it likes: the route is
        not its then, and bringing the users back must not wait for it.

        Raises:
            ReconcilerUnavailable: says what is wrong with Flux, in its words, and the remedy.
            Unsupported: the Kustomization builds from something else than a GitRepository.
        """
        self._deployed.ask(slots)
        try:
            try:
                self._hand_over(slots)
            except ReconcilerUnavailable:
                if slots.candidate is None or self._deployed.missing(slots) is not None:
                    raise
        except (ClusterUnavailable, ClusterRefuses) as error:
            raise ReconcilerUnavailable(str(error)) from error

    def status(self, slot: Slot) -> SlotStatus:
        return self._deployed.status(slot)

    def objects(self) -> tuple[Json, Json]:
        """The Kustomization and the GitRepository that it builds from, as they stand.

        Raises:
            ReconcilerUnavailable: one of them is not there; says which there are.
            Unsupported: as `reconcile`.
            ClusterUnavailable, ClusterRefuses: as `Cluster`.
        """
        kustomization = self._kustomization()
        return kustomization, self._source(kustomization)

    def trouble(self, folder: PurePath) -> FluxFacts | None:
        """What keeps Flux from bringing `folder` of what was pushed, as it stands; asks Flux for nothing.

        Raises:
            ReconcilerUnavailable: the cluster does not say.
        """
        try:
            kustomization, source = self.objects()
        except ClusterUnavailable as error:
            raise ReconcilerUnavailable(str(error)) from error
        except (ReconcilerUnavailable, Unsupported, ClusterRefuses) as error:
            return FluxFacts("stopped", str(error))
        return flux_state.trouble(
            kustomization, source, self._pushed.branch, folder, self._pushed.commit(), self._pushed.is_before
        )

    def _hand_over(self, slots: Slots) -> None:
        deadline = _Deadline(self._within_s)
        while (why := self._still_missing(slots, deadline)) is not None:
            if deadline.is_over(_ASK_AGAIN_S):
                raise ReconcilerUnavailable(why)
            time.sleep(_ASK_AGAIN_S)

    def _still_missing(self, slots: Slots, deadline: _Deadline) -> str | None:
        """Have Flux look once. Why it has not brought what was pushed, where that may change; None: it has.

        Raises:
            ReconcilerUnavailable: it will not change by itself.
        """
        kustomization, source = self.objects()
        if (why := flux_state.obstacle(kustomization, source, self._pushed.branch)) is not None:
            raise ReconcilerUnavailable(why)
        source = self._ask(GIT_REPOSITORY, source, flux_state.is_handled, deadline)
        if (why := flux_state.source_failure(source)) is not None:
            raise ReconcilerUnavailable(why)
        revision, commit = flux_state.revision_of(source), self._pushed.commit()
        fetched = flux_state.commit_of(revision)
        if fetched != commit and self._pushed.is_before(fetched, commit):
            return flux_state.behind(source, commit)

        def is_done(present: Json, asked: str) -> bool:
            handled = flux_state.is_handled(present, asked)
            return handled or flux_state.is_looking_at_health(present, revision)

        kustomization = self._ask(KUSTOMIZATION, kustomization, is_done, deadline)
        if (why := flux_state.kustomization_failure(kustomization, revision)) is not None:
            raise ReconcilerUnavailable(why)
        if not flux_state.is_applied(kustomization, revision):
            return flux_state.kustomization_waits(kustomization)
        missing = self._deployed.missing(slots)
        if missing is None:
            return None
        if fetched == commit:
            raise ReconcilerUnavailable(flux_state.applied_elsewhere(kustomization, revision, missing))
        return flux_state.behind(source, commit, missing)

    def _ask(self, kind: Kind, thing: Json, is_done: _IsDone, deadline: _Deadline) -> Json:
        """`thing` once Flux has looked at it again."""
        flux, name = self._flux.in_namespace(thing["metadata"]["namespace"]), thing["metadata"]["name"]
        asked = datetime.now(UTC).isoformat()
        thing = flux.merge(kind, name, {"metadata": {"annotations": {flux_state.REQUESTED_AT: asked}}})
        pause_s = _POLL_S
        while not is_done(thing, asked):
            if deadline.is_over():
                raise ReconcilerUnavailable(flux_state.unhandled(thing, deadline.allowed_s))
            time.sleep(pause_s)
            if flux_state.is_at_work(thing):
                deadline.was_at_work(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_POLL_S)  # twenty that wait ask as often as one does at first
            thing = flux.get(kind, name) or thing
        return thing

    def _kustomization(self) -> Json:
        found = self._flux.get(KUSTOMIZATION, self._name)
        if found is not None:
            return found
        self._require_flux()
        raise ReconcilerUnavailable(
            f"There is no Kustomization {self._name} in the namespace {self._flux.namespace}, which "
            "`kubernetes.flux` in coalmine.yaml names. See which there are: "
            f"kubectl get {KUSTOMIZATION.full_name} -A"
        )

    def _source(self, kustomization: Json) -> Json:
        namespace, name = flux_state.source_of(kustomization)
        found = self._flux.in_namespace(namespace).get(GIT_REPOSITORY, name)
        if found is not None:
            return found
        raise ReconcilerUnavailable(
            f"{flux_state.named(kustomization)} builds from the GitRepository {namespace}/{name}, and there "
            f"is none. See which there are: kubectl get {GIT_REPOSITORY.full_name} -A"
        )

    def _require_flux(self) -> None:
        try:
            self._flux.raw(KUSTOMIZATION.path)
        except ClusterRefuses as error:
            raise ReconcilerUnavailable(
                f"The cluster at {self._flux.server} has no Flux ({error}). Install it (flux install), or "
                "write `reconciler: apply` in coalmine.yaml, which does without"
            ) from error
