"""Which rights are asked for: what an API server's authorizer would hear of a client's requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import LEASE, POD, Kind

Asked = set[tuple[str, str, str]]  # group, resource, verb

SomeCluster = TypeVar("SomeCluster", bound=Cluster)

_VERBS = {
    "get": ("get",),
    "list": ("list",),
    "create": ("create",),
    "replace": ("update",),
    "merge": ("patch",),
    "delete": ("delete",),
}


def noting(cluster: SomeCluster, asked: Asked, *, watched: bool = False) -> SomeCluster:
    """`cluster`, which from now on adds to `asked` what it is asked for; so do its other namespaces.

    watched: as a WatchedCluster of it would ask, which mirrors each kind that is read here, but for leases.
    """

    def noted(method: str, verbs: tuple[str, ...]) -> Callable[..., Any]:
        real = getattr(cluster, method)

        def ask(kind: Kind, *arguments: Any, **options: Any) -> Any:
            asked.update((kind.group, kind.plural, verb) for verb in verbs)
            if watched and method in ("get", "list") and kind != LEASE:
                asked.update((kind.group, kind.plural, verb) for verb in ("list", "watch"))
            return real(kind, *arguments, **options)

        return ask

    def apply(body: dict[str, Any], plural: str, **options: Any) -> Any:
        group = body["apiVersion"].rpartition("/")[0]
        asked.update((group, plural, verb) for verb in ("create", "patch"))
        return applied(body, plural, **options)

    def from_pod(*arguments: Any) -> bytes:
        asked.add((POD.group, f"{POD.plural}/proxy", "get"))
        return proxied(*arguments)

    def in_namespace(namespace: str) -> Cluster:
        return noting(elsewhere(namespace), asked)

    applied, proxied, elsewhere = cluster.apply, cluster.from_pod, cluster.in_namespace
    mine = vars(cluster)
    mine.update({method: noted(method, verbs) for method, verbs in _VERBS.items()})
    mine.update(apply=apply, from_pod=from_pod)
    if type(cluster).in_namespace is Cluster.in_namespace:  # else all namespaces are one, as simulated
        mine.update(in_namespace=in_namespace)
    return cluster
