"""What a cluster holds once Flux has brought what Git has, with what the controllers say of each object."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from coalmine.cluster.kinds import CONFIG_MAP, DEPLOYMENT, GIT_REPOSITORY, HTTP_ROUTE, KUSTOMIZATION, POD
from tests.simulators.api_server import StateServer

Json = dict[str, Any]


def brought(server: StateServer, objects: Iterable[Json], namespace: str) -> None:
    """`objects` as Kustomize builds them, with as many ready pods as their Deployments want."""
    for body in objects:
        body["metadata"] |= {"namespace": namespace, "uid": body["metadata"]["name"], "generation": 1}
        match body["kind"]:
            case "Deployment":
                wanted = body["spec"].setdefault("replicas", 1)
                counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), wanted)
                body["status"] = {"observedGeneration": 1, **counts}
                server.store(DEPLOYMENT, body)
                server.store(POD, _pod_of(body))
            case "ConfigMap":
                server.store(CONFIG_MAP, body)
            case "HTTPRoute":
                conditions = [
                    {"type": each, "status": "True", "observedGeneration": 1, "reason": "ok", "message": ""}
                    for each in ("Accepted", "ResolvedRefs")
                ]
                parents = [
                    {"parentRef": each, "conditions": conditions} for each in body["spec"]["parentRefs"]
                ]
                body["status"] = {"parents": parents}
                server.store(HTTP_ROUTE, body)


def applied_by_flux(server: StateServer, environment: str, namespace: str, commit: str) -> None:
    """Flux's own objects, which say that it has applied `commit`."""
    revision, name = f"main@sha1:{commit}", f"coalmine-{environment}"
    ready = {"type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "message": ""}
    metadata = {"name": name, "namespace": namespace}
    source = {
        "kind": "GitRepository",
        "metadata": metadata,
        "spec": {"url": "https://git.example.com/m.git", "ref": {"branch": "main"}},
        "status": {"artifact": {"revision": revision}, "conditions": [ready]},
    }
    kustomization = {
        "kind": "Kustomization",
        "metadata": metadata,
        "spec": {
            "path": f"./k8s/environments/{environment}",
            "sourceRef": {"kind": "GitRepository", "name": name},
        },
        "status": {"lastAttemptedRevision": revision, "conditions": [ready]},
    }
    server.store(GIT_REPOSITORY, source)
    server.store(KUSTOMIZATION, kustomization)


def _pod_of(deployment: Json) -> Json:
    template = copy.deepcopy(deployment["spec"]["template"])
    template["metadata"]["name"] = f"{deployment['metadata']['name']}-pod"
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {**template, "status": {"conditions": [ready]}}
