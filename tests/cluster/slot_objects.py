"""The objects of a model `m` as small as a reconciler can take them: pods of plain Python that become
ready in a second, and some that never do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coalmine.slots import Slot, SlotRelease, Slots
from tests.cluster.image import REFERENCE
from tests.contracts.reconciler import BROKEN

NO_IMAGE = "coalmine.invalid/nothing:1"
LAST_WORDS = "ValueError: no such column: pressure"

Json = dict[str, Any]

_SERVE = ["python3", "-m", "http.server", "8080"]
_DIE = ["python3", "-c", f"import sys; sys.exit('loading the model\\n{LAST_WORDS}')"]
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def objects_of(slots: Slots, images: Mapping[str, str] | None = None) -> list[Json]:
    """images: of a release's pods, by its version, where it is not the usual one."""
    made: list[Json] = []
    for slot in Slot:
        made.append(service(slot))
        release = slots.releases.get(slot)
        if release is not None:
            made.append(deployment(slot, release, (images or {}).get(release.version, REFERENCE)))
            made.append(config_map(slot, release))
    return made


def deployment(slot: Slot, release: SlotRelease, image: str = REFERENCE) -> Json:
    labels = _labels(slot)
    server = {
        "name": "server",
        "image": image,
        "command": _DIE if release.version == BROKEN.version else _SERVE,
        "workingDir": "/tmp",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "securityContext": _RESTRICTED,
    }
    annotations = {"coalmine.dev/digest": release.model_digest}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"m-{slot}", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [server],
                },
            },
        },
    }


def service(slot: Slot) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"m-{slot}", "labels": _labels(slot)},
        "spec": {
            "selector": _labels(slot),
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def config_map(slot: Slot, release: SlotRelease) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"m-{slot}", "labels": _labels(slot)},
        "data": {"manifest.yaml": f"version: {release.version}\n"},
    }


def _labels(slot: Slot) -> dict[str, str]:
    return {"app.kubernetes.io/name": "m", "coalmine.dev/slot": slot.value}
