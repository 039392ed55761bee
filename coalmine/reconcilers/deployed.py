"""What of one model stands in a namespace, compared with what was asked for: shared by all reconcilers
that leave the running to Kubernetes.

The Deployments `<model>-blue` and `<model>-green` say by their digest which release they run; how their
pods do is read by the rules of `pods`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from coalmine.cluster.client import Cluster, ClusterRefuses, ClusterUnavailable, Json
from coalmine.cluster.kinds import DEPLOYMENT, POD, REPLICA_SET
from coalmine.errors import ReconcilerUnavailable
from coalmine.reconcilers.pods import digest_of, is_available, slot_status
from coalmine.rollout.ports import SlotHealth, SlotStatus
from coalmine.slots import Slot, Slots

Digests = Mapping[Slot, str | None]  # which release is meant to run in each slot; None: none is


class Deployed:
    """The slots of `model` on a cluster."""

    def __init__(self, cluster: Cluster, model: str) -> None:
        self._cluster = cluster
        self._model = model
        self._asked: Digests | None = None  # None: this process asked for nothing yet

    def ask(self, slots: Slots) -> None:
        """From now on a status speaks of these releases, and of none that ran before them."""
        self._asked = digests_of(slots)

    def missing(self, slots: Slots) -> str | None:
        """What the Deployments do not say yet of `slots`, in words; None: nothing. Two requests.

        Raises:
            ClusterUnavailable, ClusterRefuses: as the API server has it.
        """
        lacks = (
            _lack(self.name(slot), self._deployment(slot), digest)
            for slot, digest in digests_of(slots).items()
        )
        return "; ".join(each for each in lacks if each is not None) or None

    def status(self, slot: Slot) -> SlotStatus:
        """One request where the slot is ready, three at most.

        Raises:
            ReconcilerUnavailable: safe to retry.
        """
        try:
            return self._status(slot)
        except (ClusterUnavailable, ClusterRefuses) as error:
            raise ReconcilerUnavailable(str(error)) from error

    def name(self, slot: Slot) -> str:
        """Of all that belongs to `slot`."""
        return f"{self._model}-{slot}"

    def _status(self, slot: Slot) -> SlotStatus:
        name, deployment = self.name(slot), self._deployment(slot)
        is_meant = deployment is not None if self._asked is None else self._asked[slot] is not None
        if not is_meant:
            return SlotStatus(SlotHealth.FAILED, f"nothing is meant to run in {slot}")
        if deployment is None:
            return SlotStatus(SlotHealth.FAILED, f"the Deployment {name} was taken away")
        if self._asked is not None and (lack := _lack(name, deployment, self._asked[slot])) is not None:
            return SlotStatus(SlotHealth.STARTING, lack)
        if is_available(deployment):
            return SlotStatus(SlotHealth.READY)
        labels = {"app.kubernetes.io/name": self._model, "coalmine.dev/slot": slot.value}
        replica_sets = self._cluster.list(REPLICA_SET, labels)
        pods = self._cluster.list(POD, labels)
        return slot_status(deployment, replica_sets, pods, time.time())

    def _deployment(self, slot: Slot) -> Json | None:
        """None: there is none, or it is on its way out."""
        found = self._cluster.get(DEPLOYMENT, self.name(slot))
        return None if found is None or "deletionTimestamp" in found["metadata"] else found


def digests_of(slots: Slots) -> Digests:
    return {
        slot: None if (release := slots.releases.get(slot)) is None else release.model_digest for slot in Slot
    }


def _lack(name: str, deployment: Json | None, digest: str | None) -> str | None:
    """What keeps `deployment` from being what `digest` asks for."""
    if deployment is None:
        return None if digest is None else f"the Deployment {name} is not there yet"
    if digest is None:
        return f"the Deployment {name} is still there"
    present = digest_of(deployment)
    if present == digest:
        return None
    return f"the Deployment {name} still has release {(present or 'none')[:12]}, not {digest[:12]}"
