"""Where what was seen between two looks is kept: one value, replaced whole.

    of                      this machine                                        a cluster's ConfigMap
    a model (triggers)      `.coalmine/triggers/<environment>/<model>.json`     `<model>-triggers`
    an environment (watch)  `.coalmine/watch/<environment>.json`                `coalmine-watch`

On a cluster a ConfigMap, since a look there may be a pod that is gone with its run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from coalmine.cluster.client import Cluster, Json, Stale
from coalmine.cluster.kinds import CONFIG_MAP
from coalmine.durable import replace_json
from coalmine.errors import AlreadyRunning, IntegrityError
from coalmine.settings import STATE

_KEY = "watched.json"


class Looks(Protocol):
    def read(self) -> Any:
        """What was written last; None before.

        Raises:
            IntegrityError: somebody edited it.
            Unavailable: the cluster does not answer.
        """

    def write(self, content: object) -> None:
        """In the place of what was read.

        Raises:
            AlreadyRunning: somebody wrote meanwhile, and this look counts for nothing.
            MachineUnready, Unavailable: it cannot be written.
        """


class FileLooks:
    """For one who has a lock of it: a look reads and writes alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def at_model(cls, top: Path, environment: str, model: str) -> FileLooks:
        return cls(top / STATE / "triggers" / environment / f"{model}.json")

    @classmethod
    def at_environment(cls, top: Path, environment: str) -> FileLooks:
        return cls(top / STATE / "watch" / f"{environment}.json")

    def read(self) -> Any:
        try:
            return _parsed(self._path.read_text(encoding="utf-8"), str(self._path))
        except FileNotFoundError:
            return None

    def write(self, content: object) -> None:
        replace_json(self._path, content)


class ClusterLooks:
    def __init__(self, cluster: Cluster, name: str, component: str, of: str) -> None:
        """of: whose looks they are, for people and as a label."""
        self._cluster = cluster
        self._name = name
        self._component = component
        self._of = of
        self._version = ""

    @classmethod
    def at_model(cls, cluster: Cluster, model: str) -> ClusterLooks:
        return cls(cluster, f"{model}-triggers", "triggers", model)

    @classmethod
    def at_environment(cls, cluster: Cluster, environment: str) -> ClusterLooks:
        return cls(cluster, "coalmine-watch", "watch", environment)

    def read(self) -> Any:
        body = self._cluster.get(CONFIG_MAP, self._name)
        if body is None:
            return None
        self._version = body["metadata"]["resourceVersion"]
        return _parsed((body.get("data") or {}).get(_KEY, ""), f"ConfigMap {self._name}")

    def write(self, content: object) -> None:
        write = self._cluster.replace if self._version else self._cluster.create
        try:
            self._version = write(CONFIG_MAP, self._body(content))["metadata"]["resourceVersion"]
        except Stale as error:
            raise AlreadyRunning(
                f"Another look at {self._of} wrote ConfigMap {self._name} in {self._cluster.namespace} "
                "meanwhile: that one counts"
            ) from error

    def _body(self, content: object) -> Json:
        labels = {
            "app.kubernetes.io/part-of": "coalmine",
            "app.kubernetes.io/component": self._component,
            "app.kubernetes.io/name": self._of,
        }
        version = {"resourceVersion": self._version} if self._version else {}
        return {
            "apiVersion": CONFIG_MAP.api_version,
            "kind": CONFIG_MAP.kind,
            "metadata": {"name": self._name, "labels": labels, **version},
            "data": {_KEY: json.dumps(content)},
        }


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise IntegrityError(
            f"{where} is written by coalmine at each look, and cannot be read: {error}. Take it away, and "
            "what was seen begins anew"
        ) from error
