"""ServiceAccounts of a namespace, and the cluster as each of them reaches it: by a token, as a pod does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kubernetes import client

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import Kind
from coalmine.cluster.rights import Right, has
from tests.cluster.routed import eventually

Json = dict[str, Any]

ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")


def reached_as(cluster: Cluster, account: str) -> Cluster:
    """The cluster as `account` of the namespace reaches it."""
    known = cluster.api.configuration
    configuration = client.Configuration(
        host=known.host,
        api_key={"BearerToken": _token(cluster, account)},
        api_key_prefix={"BearerToken": "Bearer"},
    )
    configuration.ssl_ca_cert = known.ssl_ca_cert
    configuration.retries = False
    return Cluster(client.ApiClient(configuration), cluster.namespace)


def kubeconfig(cluster: Cluster, account: str, file: Path) -> Path:
    """`file`, by which whoever reads it is `account` for an hour."""
    known = cluster.api.configuration
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "it",
                "cluster": {"server": known.host, "certificate-authority": str(known.ssl_ca_cert)},
            }
        ],
        "users": [{"name": account, "user": {"token": _token(cluster, account)}}],
        "contexts": [{"name": account, "context": {"cluster": "it", "user": account}}],
        "current-context": account,
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def _token(cluster: Cluster, account: str) -> str:
    core = client.CoreV1Api(cluster.api)
    request = {"spec": {"expirationSeconds": 3600}}
    token: str = core.create_namespaced_service_account_token(
        account, cluster.namespace, request
    ).status.token
    return token


def account_with(cluster: Cluster, name: str, rights: Sequence[Right]) -> Cluster:
    """The cluster as a new account reaches it that has `rights` and no others."""
    metadata = {"name": name}
    rules = [
        {
            "apiGroups": [right.group],
            "resources": [right.resource],
            "verbs": [right.verb],
            **({"resourceNames": [right.name]} if right.name else {}),
        }
        for right in rights
    ]
    subject = {"kind": SERVICE_ACCOUNT.kind, "name": name, "namespace": cluster.namespace}
    role = {"apiGroup": ROLE.group, "kind": ROLE.kind, "name": name}
    cluster.create(SERVICE_ACCOUNT, {"metadata": metadata})
    cluster.create(ROLE, {"metadata": metadata, "rules": rules})
    cluster.create(ROLE_BINDING, {"metadata": metadata, "roleRef": role, "subjects": [subject]})
    reached = reached_as(cluster, name)
    eventually(known(reached, rights), f"{name} has its rights")
    return reached


def known(reached: Cluster, rights: Sequence[Right]) -> Callable[[], bool]:
    """Whether the API server knows by now of `rights`, which takes it a moment."""
    return lambda: all(has(reached, right) for right in rights)
