"""The kinds of objects that coalmine reads or writes, by the versions it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """group: "" for the core. All of them live in namespaces."""

    group: str
    version: str
    kind: str
    plural: str

    @classmethod
    def of(cls, body: Mapping[str, Any], plural: str) -> Kind:
        """That of the object `body`."""
        group, _, version = body["apiVersion"].rpartition("/")
        return cls(group, version, body["kind"], plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """Of the API server, up to the version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def full_name(self) -> str:
        """As kubectl takes it without doubt: two groups have a `virtualservice`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
EVENT = Kind("", "v1", "Event", "events")
POD = Kind("", "v1", "Pod", "pods")
SERVICE = Kind("", "v1", "Service", "services")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")

HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
VIRTUAL_SERVICE = Kind("networking.istio.io", "v1", "VirtualService", "virtualservices")
SERVICE_PROFILE = Kind("linkerd.io", "v1alpha2", "ServiceProfile", "serviceprofiles")
VIRTUAL_ROUTER = Kind("appmesh.k8s.aws", "v1beta2", "VirtualRouter", "virtualrouters")

GIT_REPOSITORY = Kind("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories")
KUSTOMIZATION = Kind("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations")
