"""An API server as small as a reconciler can talk to: objects in memory, over HTTP on loopback.

It knows reading, merging, server-side apply and deletion, uids and generations, and reviews of rights. It has
no controllers: a test says what happens when an object is written. Nor do fields have owners: a test says
what is refused.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import Kind
from tests.loopback import body_of, serving

Json = dict[str, Any]

NAMESPACE = "ns"
RESOURCES = {
    "/api/v1": {"ConfigMap": "configmaps", "Service": "services", "Pod": "pods"},
    "/apis/apps/v1": {"Deployment": "deployments", "ReplicaSet": "replicasets"},
    "/apis/policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "/apis/gateway.networking.k8s.io/v1": {"HTTPRoute": "httproutes"},
    "/apis/rbac.authorization.k8s.io/v1": {"ClusterRole": "clusterroles"},
    "/apis/source.toolkit.fluxcd.io/v1": {"GitRepository": "gitrepositories"},
    "/apis/kustomize.toolkit.fluxcd.io/v1": {"Kustomization": "kustomizations"},
}
OF_THE_CLUSTER = {"ClusterRole"}


@dataclass
class ApiServer:
    """objects: by the path of each. asked: every request but discovery, as `METHOD path`, dry runs marked.

    refused: status and words with which an apply is answered that is not forced, by the object's path.
    broken: the same for reading.
    on_write: what controllers do with an object that was written.
    writes_left: how many more writes are taken before nothing is answered any more; None: any number.
    may: whether somebody may do what a review asks for.
    """

    port: int = 0
    objects: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    broken: dict[str, tuple[int, str]] = field(default_factory=dict)
    on_write: Callable[[Json], None] = lambda _: None
    writes_left: int | None = None
    version: str = "v1.34.1"
    may: Callable[[Json], bool] = lambda _: True

    def cluster(self, namespace: str = NAMESPACE) -> Cluster:
        configuration = client.Configuration(host=f"http://127.0.0.1:{self.port}")
        configuration.retries = False
        return Cluster(client.ApiClient(configuration), namespace)

    def put(self, kind: Kind, thing: Json) -> Json:
        """`thing`, whole, as somebody else writes it."""
        metadata = {"namespace": NAMESPACE, **thing["metadata"]}
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **thing, "metadata": metadata}
        self.objects[path_of(kind, metadata["name"], metadata["namespace"])] = _stored(None, whole)
        return self.at(kind, metadata["name"], metadata["namespace"])

    def at(self, kind: Kind, name: str, namespace: str = NAMESPACE) -> Json:
        return self.objects[path_of(kind, name, namespace)]

    def names(self) -> set[str]:
        """All that is there, as `kind/name`."""
        return {f"{each['kind']}/{each['metadata']['name']}" for each in self.objects.values()}

    def writes(self) -> list[str]:
        """What was asked that changes something, without the namespace."""
        return [each for each in self.asked if not each.startswith("GET") and "dry run" not in each]

    # --- answers -----------------------------------------------------------------------

    def answer(self, method: str, url: str, body: Json, content_type: str) -> tuple[int, Json]:
        parts = urlsplit(url)
        path, query = parts.path, {key: value[0] for key, value in parse_qs(parts.query).items()}
        if method == "POST":
            return self._reviewed(body)
        if method == "GET" and "/namespaces/" not in path:
            return self._discovered(path)
        dry = query.get("dryRun") == "All"
        self.asked.append(f"{method} {path.split('/namespaces/')[1]}{' (dry run)' if dry else ''}")
        if self.writes_left is not None and method != "GET" and not dry:
            if self.writes_left == 0:
                return 503, {"message": "gone"}
            self.writes_left -= 1
        live = self.objects.get(path)
        if method == "GET":
            return self._read(path, live)
        if method == "DELETE":
            return self._deleted(path, live, body)
        if "apply" in content_type:
            return self._applied(path, live, body, query.get("force") == "true", dry)
        if live is None:
            return 404, {"message": f"{path} not found"}
        return 200, self._kept(path, live, _merged(live, body))

    def _reviewed(self, review: Json) -> tuple[int, Json]:
        if review["kind"] == "SelfSubjectReview":
            return 201, {"status": {"userInfo": {"username": "kim"}}}
        return 201, {"status": {"allowed": self.may(review["spec"]["resourceAttributes"])}}

    def _discovered(self, path: str) -> tuple[int, Json]:
        if path == "/version":
            major, minor, _ = self.version.removeprefix("v").split(".")
            return 200, {"major": major, "minor": minor, "gitVersion": self.version}
        versions = [known.rsplit("/", 1)[1] for known in RESOURCES if known.rsplit("/", 1)[0] == path]
        if versions and path != "/api":
            return 200, {"versions": [{"version": version} for version in versions]}
        if path not in RESOURCES:
            return 404, {"message": "the server could not find the requested resource"}
        found = [
            {"kind": kind, "name": plural, "namespaced": kind not in OF_THE_CLUSTER}
            for kind, plural in RESOURCES[path].items()
        ]
        parts = [{**each, "name": f"{each['name']}/status"} for each in found]
        return 200, {"resources": [*found, *parts]}

    def _read(self, path: str, live: Json | None) -> tuple[int, Json]:
        if path in self.broken:
            status, words = self.broken[path]
            return status, {"message": words}
        if live is not None:
            return 200, live
        if len(path.split("/namespaces/")[1].split("/")) == 2:
            return 200, {"items": [each for at, each in self.objects.items() if at.startswith(f"{path}/")]}
        return 404, {"message": f"{path} not found"}

    def _deleted(self, path: str, live: Json | None, body: Json) -> tuple[int, Json]:
        if live is None:
            return 404, {"message": f"{path} not found"}
        uid = live["metadata"]["uid"]
        if body.get("preconditions", {}).get("uid", uid) != uid:
            return 409, {"message": "the UID in the precondition does not match"}
        return 200, self.objects.pop(path)

    def _applied(self, path: str, live: Json | None, body: Json, force: bool, dry: bool) -> tuple[int, Json]:
        if path in self.refused and not force:
            status, words = self.refused[path]
            return status, {"message": words}
        wanted = body if live is None else _merged(live, body)
        return 200, _stored(live, wanted) if dry else self._kept(path, live, wanted)

    def _kept(self, path: str, live: Json | None, wanted: Json) -> Json:
        self.objects[path] = _stored(live, wanted)
        self.on_write(self.objects[path])
        return self.objects[path]


def path_of(kind: Kind, name: str, namespace: str = NAMESPACE) -> str:
    return f"{kind.path}/namespaces/{namespace}/{kind.plural}/{name}"


@contextmanager
def api_server() -> Iterator[ApiServer]:
    served = ApiServer()
    handler = type("Handler", (_Handler,), {"served": served})
    with serving(handler) as server:
        served.port = server.server_port
        yield served


class _Handler(BaseHTTPRequestHandler):
    served: ApiServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self) -> None:
        body = json.loads(body_of(self) or b"{}")
        status, said = self.served.answer(self.command, self.path, body, self.headers.get("Content-Type", ""))
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PATCH = do_DELETE = do_POST = do_GET  # noqa: N815 (as http.server finds them)


def _stored(live: Json | None, wanted: Json) -> Json:
    """`wanted` with what the API server itself writes."""
    thing = copy.deepcopy(wanted)
    before = {} if live is None else live["metadata"]
    changed = live is None or live.get("spec") != thing.get("spec")
    thing["metadata"] |= {
        "uid": before.get("uid") or secrets.token_hex(8),
        "generation": before.get("generation", 0) + changed,
        "creationTimestamp": before.get("creationTimestamp", "2026-01-01T00:00:00Z"),
    }
    return thing


def _merged(live: Json, change: Json) -> Json:
    """RFC 7386."""
    merged = dict(live)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged
