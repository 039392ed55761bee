"""An API server in memory, as far as state goes: versions of objects, conflicts, labels, sizes; and what goes
wrong between it and one of its clients."""

from __future__ import annotations

import base64
import copy
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coalmine.cluster.client import Cluster, ClusterRefuses, ClusterUnavailable, Stale
from coalmine.cluster.kinds import CONFIG_MAP, Kind

Json = dict[str, Any]

LARGEST = 1 << 20  # of a ConfigMap's data, as Kubernetes has it


@dataclass
class StateServer:
    """objects: by kind and name. changes: each write, in order, as a watch tells of it; how many there were
    is the version of the last."""

    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    changes: list[Json] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def writes(self) -> int:
        return len(self.changes)

    def store(self, kind: Kind, body: Json) -> Json:
        key = kind.kind, body["metadata"]["name"]
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self.writes + 1)
        self.changes.append({"type": "MODIFIED" if key in self.objects else "ADDED", "object": stored})
        self.objects[key] = stored
        return stored

    def remove(self, kind: Kind, name: str) -> None:
        removed = copy.deepcopy(self.objects.pop((kind.kind, name), None))
        if removed is not None:
            removed["metadata"]["resourceVersion"] = str(self.writes + 1)
            self.changes.append({"type": "DELETED", "object": removed})

    def client(self) -> StateClient:
        return StateClient(self)

    def names(self, kind: Kind) -> set[str]:
        return {name for of, name in self.objects if of == kind.kind}


class StateClient(Cluster):
    """One machine's way to the server.

    down: nothing is answered, and nothing arrives. mute: what is written arrives, and nothing is answered.
    before: called before each request, with the method and the object's name.
    asked: every request that arrived: method, name, and how many bytes were sent.
    """

    def __init__(self, server: StateServer) -> None:
        self.namespace = "shop"
        self.server = f"https://{id(self)}"  # what one machine has seen, another has not
        self._server = server
        self.down = False
        self.mute = False
        self.before: Callable[[str, str], None] | None = None
        self.asked: list[tuple[str, str, int]] = []

    # --- as `Cluster` ----------------------------------------------------------------------

    def get(self, kind: Kind, name: str) -> Json | None:
        return self.request("GET", name, None, lambda: self._server.objects.get((kind.kind, name)))

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Json]:
        wanted = (labels or {}).items()
        found: list[Json] = self.request(
            "LIST",
            kind.plural,
            None,
            lambda: [
                body
                for (of, _), body in self._server.objects.items()
                if of == kind.kind and wanted <= (body["metadata"].get("labels") or {}).items()
            ],
        )
        return found

    def create(self, kind: Kind, body: Json) -> Json:
        name = body["metadata"]["name"]

        def created() -> Json:
            if (kind.kind, name) in self._server.objects:
                raise Stale(f'{kind.plural} "{name}" already exists')
            return self._stored(
                kind, {**body, "metadata": {**body["metadata"], "uid": f"uid-{self._server.writes}"}}
            )

        return self._written("POST", name, body, created)

    def replace(self, kind: Kind, body: Json) -> Json:
        name = body["metadata"]["name"]

        def replaced() -> Json:
            before = self._server.objects.get((kind.kind, name))
            if before is None:
                raise Stale(f'{kind.plural} "{name}" not found')
            version = body["metadata"].get("resourceVersion")
            if version is None and kind is not CONFIG_MAP:
                raise ClusterRefuses("metadata.resourceVersion: must be specified for an update")
            if version not in (None, before["metadata"]["resourceVersion"]):
                raise Stale("the object has been modified")
            if before.get("immutable") and before.get("binaryData") != body.get("binaryData"):
                raise ClusterRefuses("field is immutable when `immutable` is set")
            return self._stored(
                kind, {**body, "metadata": {**body["metadata"], "uid": before["metadata"]["uid"]}}
            )

        return self._written("PUT", name, body, replaced)

    def merge(self, kind: Kind, name: str, change: Json) -> Json:
        def merged() -> Json:
            before = self._server.objects.get((kind.kind, name))
            if before is None:
                raise Stale(f'{kind.plural} "{name}" not found')
            version = change.get("metadata", {}).get("resourceVersion")
            if version not in (None, before["metadata"]["resourceVersion"]):
                raise Stale("the object has been modified")
            return self._stored(kind, _merged(before, change))

        return self._written("PATCH", name, change, merged)

    def delete(self, kind: Kind, name: str, uid: str | None = None) -> None:
        def deleted() -> Json:
            before = self._server.objects.get((kind.kind, name))
            if before is not None and uid not in (None, before["metadata"]["uid"]):
                raise Stale("the UID in the precondition does not match")
            self._server.remove(kind, name)
            return {}

        self._written("DELETE", name, {}, deleted)

    def in_namespace(self, namespace: str) -> StateClient:  # noqa: ARG002
        return self  # there is one

    def raw(self, path: str) -> Json:
        answered: Json = self.request("GET", path, None, dict)
        return answered

    # --- requests --------------------------------------------------------------------------

    def request(self, method: str, name: str, body: Json | None, answer: Callable[[], Any]) -> Any:
        if self.before is not None:
            self.before(method, name)
        if self.down:
            raise ClusterUnavailable("connection refused")
        try:
            with self._server.lock:
                self.asked.append((method, name, 0 if body is None else len(json.dumps(body))))
                return copy.deepcopy(answer())
        finally:
            if self.mute:
                raise ClusterUnavailable("timed out")

    def _written(self, method: str, name: str, body: Json, write: Callable[[], Json]) -> Json:
        written: Json = self.request(method, name, body, write)
        return written

    def _stored(self, kind: Kind, body: Json) -> Json:
        if _size(body) > LARGEST:
            raise ClusterRefuses("Too long: must have at most 1048576 bytes")
        return self._server.store(kind, body)


def _size(body: Json) -> int:
    packed = (len(base64.b64decode(value)) for value in (body.get("binaryData") or {}).values())
    return sum(packed) + sum(len(value.encode()) for value in (body.get("data") or {}).values())


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
