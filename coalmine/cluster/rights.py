"""What an account may do: as Roles say it, and as the API server answers when it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coalmine.cluster.client import Cluster, Json

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclass(frozen=True, order=True)
class Right:
    """One verb, in one namespace.

    resource: as in a Role, a part of an object after a slash: `pods/proxy`. name: of the only object that is
    meant; "" where any is.
    """

    namespace: str
    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        kind, _, part = self.resource.partition("/")
        full = f"{kind}.{self.group}" if self.group else kind
        return " ".join(filter(None, (self.verb, f"{full}/{part}" if part else full, self.name)))


def rights_of(account: str, namespace: str, objects: Sequence[Json]) -> list[Right]:
    """What the ServiceAccount `account` of `namespace` may do, by the Roles and RoleBindings of `objects`."""
    bound = {
        (each["metadata"]["namespace"], each["roleRef"]["name"])
        for each in objects
        if each["kind"] == "RoleBinding" and _binds(each, account, namespace)
    }
    return [
        right
        for each in objects
        if each["kind"] == "Role" and (each["metadata"]["namespace"], each["metadata"]["name"]) in bound
        for right in _allowed(each)
    ]


def _binds(binding: Json, account: str, namespace: str) -> bool:
    who = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    return any(who.items() <= subject.items() for subject in binding["subjects"])


def _allowed(role: Json) -> Iterator[Right]:
    namespace = role["metadata"]["namespace"]
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Right(namespace, group, resource, verb, name)


def has(cluster: Cluster, right: Right) -> bool:
    """Whether whoever asks has `right`.

    Raises:
        ClusterUnavailable, ClusterRefuses: as `Cluster`.
    """
    resource, _, part = right.resource.partition("/")
    asked = {
        "namespace": right.namespace,
        "group": right.group,
        "resource": resource,
        "subresource": part,
        "verb": right.verb,
        "name": right.name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = cluster.post(_REVIEWS, review)
    allowed: bool = answer["status"]["allowed"]
    return allowed


def who(cluster: Cluster) -> str:
    """The name under which the API server knows whoever asks.

    Raises:
        ClusterUnavailable, ClusterRefuses: as `Cluster`.
    """
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    name: str = cluster.post(_WHO, review)["status"]["userInfo"]["username"]
    return name
