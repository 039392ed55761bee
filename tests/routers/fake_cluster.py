"""A cluster's API server as far as a route goes: versions, generations, who wrote which field; and a
controller that accepts what it is given, or does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from coalmine.cluster.client import FIELD_MANAGER, Cluster, ClusterUnavailable, Stale
from coalmine.cluster.kinds import Kind
from coalmine.routers.technology import Json

NAMESPACE = "shop"


class FakeCluster(Cluster):
    """
    controller: writes the status of an object after each write, in place.
    before_a_write: called once, when the next one comes: somebody is quicker.
    """

    def __init__(self, controller: Callable[[Json], None]) -> None:
        self.namespace = NAMESPACE
        self.controller = controller
        self.objects: dict[tuple[str, str], Json] = {}
        self.writes = 0
        self.down = False
        self.before_a_write: Callable[[], None] | None = None
        self.fault: Exception | None = None

    def put(self, kind: Kind, body: Json, manager: str, *, applies: bool = False) -> Json:
        """`body`, whatever version was there, as `manager` writes it.

        applies: by server-side apply, by which it holds what is as it wants it, too.
        """
        name = body["metadata"]["name"]
        before = self.objects.get((kind.kind, name), {"metadata": {}, "spec": {}})
        after = copy.deepcopy(body)
        metadata = after["metadata"]
        metadata["namespace"] = NAMESPACE
        self.writes += 1
        metadata["resourceVersion"] = str(self.writes)
        changed = [key for key in after["spec"] if after["spec"][key] != before["spec"].get(key)]
        generation = before["metadata"].get("generation", 0)
        metadata["generation"] = generation + 1 if changed else generation
        held: dict[str, set[str]] = {
            entry["manager"]: set(entry["fieldsV1"]["f:spec"])
            for entry in before["metadata"].get("managedFields", [])
        }
        for other in held:
            held[other] -= {f"f:{key}" for key in changed}
        own = after["spec"] if applies else changed
        held[manager] = held.get(manager, set()) | {f"f:{key}" for key in own}
        metadata["managedFields"] = [
            {"manager": each, "fieldsV1": {"f:spec": {field: {} for field in sorted(those)}}}
            for each, those in held.items()
        ]
        self.objects[kind.kind, name] = after
        self.controller(after)
        return copy.deepcopy(after)

    # --- as `Cluster` ----------------------------------------------------------------------

    def get(self, kind: Kind, name: str) -> Json | None:
        self._answer()
        return copy.deepcopy(self.objects.get((kind.kind, name)))

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Json]:
        assert not labels
        self._answer()
        return [copy.deepcopy(body) for (of, _), body in self.objects.items() if of == kind.kind]

    def replace(self, kind: Kind, body: Json) -> Json:
        self._answer()
        if self.before_a_write is not None:
            somebody, self.before_a_write = self.before_a_write, None
            somebody()
        present: Any = self.objects.get((kind.kind, body["metadata"]["name"]), {"metadata": {}})
        if present["metadata"].get("resourceVersion") != body["metadata"]["resourceVersion"]:
            raise Stale("the object has been modified")
        return self.put(kind, body, FIELD_MANAGER)

    def _answer(self) -> None:
        if self.down:
            raise ClusterUnavailable("connection refused")
        if self.fault is not None:
            raise self.fault
