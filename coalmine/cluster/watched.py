"""One namespace of one cluster for a process with many rollouts: what each of them reads at every look is
mirrored for all of them, so that looking asks the API server nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from coalmine.cluster.client import Cluster, Json, Stale
from coalmine.cluster.kinds import LEASE, Kind
from coalmine.cluster.mirror import Mirror, Unknown


class WatchedCluster(Cluster):
    """A kind is watched from its first reading on, but for leases: who holds one is decided by what the API
    server says now."""

    def __init__(self, plain: Cluster) -> None:
        super().__init__(plain.api, plain.namespace, plain.pace)
        self._plain = plain
        self._mirrors: dict[Kind, Mirror] = {}
        self._starting = threading.Lock()

    def stop(self) -> None:
        """Watch nothing any more."""
        with self._starting:
            mirrors = list(self._mirrors.values())
        for mirror in mirrors:
            mirror.stop()

    # --- reading ---------------------------------------------------------------------------

    def get(self, kind: Kind, name: str) -> Json | None:
        if (mirror := self._mirror(kind)) is not None:
            known = mirror.get(name)
            if not isinstance(known, Unknown):
                return known
        return self._plain.get(kind, name)

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Json]:
        if (mirror := self._mirror(kind)) is not None:
            known = mirror.list(labels or {})
            if not isinstance(known, Unknown):
                return known
        return self._plain.list(kind, labels)

    def _mirror(self, kind: Kind) -> Mirror | None:
        if kind == LEASE:
            return None
        with self._starting:
            if kind not in self._mirrors:
                self._mirrors[kind] = Mirror(self._plain, kind)
                self._mirrors[kind].start()
            return self._mirrors[kind]

    # --- writing ---------------------------------------------------------------------------

    def create(self, kind: Kind, body: Json) -> Json:
        return self._written(kind, body["metadata"]["name"], lambda: self._plain.create(kind, body))

    def replace(self, kind: Kind, body: Json) -> Json:
        return self._written(kind, body["metadata"]["name"], lambda: self._plain.replace(kind, body))

    def merge(self, kind: Kind, name: str, change: Json) -> Json:
        return self._written(kind, name, lambda: self._plain.merge(kind, name, change))

    def apply(self, body: Json, plural: str, *, force: bool = False, dry_run: bool = False) -> Json:
        if dry_run:
            return self._plain.apply(body, plural, force=force, dry_run=True)
        kind = Kind.of(body, plural)
        return self._written(
            kind, body["metadata"]["name"], lambda: self._plain.apply(body, plural, force=force)
        )

    def delete(self, kind: Kind, name: str, uid: str | None = None) -> None:
        self._plain.delete(kind, name, uid)
        if (mirror := self._mirrors.get(kind)) is not None:
            mirror.deleted(name)

    def _written(self, kind: Kind, name: str, write: Callable[[], Json]) -> Json:
        mirror = self._mirrors.get(kind)
        try:
            body = write()
        except Stale:
            if mirror is not None:
                mirror.refused(name)
            raise
        if mirror is not None:
            mirror.written(body)
        return body
