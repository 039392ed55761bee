"""The pods of one model's two slots, as the API server tells of them, and what they answer themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from coalmine.cluster.client import Cluster, ClusterRefuses, ClusterUnavailable
from coalmine.cluster.kinds import POD
from coalmine.errors import TelemetryUnavailable
from coalmine.slots import Slot
from coalmine.telemetry.pairs import Ask

PORT = 8080  # where a model server listens in its pod
NAME, SLOT = "app.kubernetes.io/name", "coalmine.dev/slot"


@dataclass(frozen=True)
class ReadyPod:
    """One that takes requests. for_s: since so many seconds."""

    name: str
    slot: Slot
    for_s: float


class ModelPods:
    """Those of `model` in the namespace of `cluster`."""

    def __init__(self, cluster: Cluster, model: str) -> None:
        self._cluster = cluster
        self._model = model

    def ready(self) -> list[ReadyPod]:
        """
        Raises:
            TelemetryUnavailable: the API server does not say.
        """
        try:
            found = self._cluster.list(POD, {NAME: self._model})
        except (ClusterUnavailable, ClusterRefuses) as error:
            raise TelemetryUnavailable(
                f"Which pods of {self._model} there are is not known: {error}"
            ) from error
        now_s = time.time()
        return [pod for each in found if (pod := _ready_pod(each, now_s)) is not None]

    def servers(self) -> dict[Slot, dict[str, Ask]]:
        """By pod, how each that is ready is asked: through the API server.

        Raises:
            TelemetryUnavailable: as `ready`.
        """
        asked: dict[Slot, dict[str, Ask]] = {slot: {} for slot in Slot}
        for pod in self.ready():
            asked[pod.slot][pod.name] = partial(self._ask, pod.name)
        return asked

    def _ask(self, pod: str, path: str) -> bytes:
        try:
            return self._cluster.from_pod(pod, PORT, path)
        except (ClusterUnavailable, ClusterRefuses) as error:
            raise TelemetryUnavailable(f"its server does not tell ({error})") from error


def _ready_pod(pod: Mapping[str, Any], now_s: float) -> ReadyPod | None:
    labels = pod["metadata"].get("labels", {})
    conditions = {each["type"]: each for each in pod.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready", {})
    if labels.get(SLOT) not in set(Slot) or ready.get("status") != "True":
        return None
    if "deletionTimestamp" in pod["metadata"]:
        return None
    since_s = datetime.fromisoformat(ready["lastTransitionTime"]).timestamp()
    return ReadyPod(pod["metadata"]["name"], Slot(labels[SLOT]), now_s - since_s)
