"""Where what was seen of a model between two looks is kept: one value, replaced whole.

On this machine a file, `.coalmine/triggers/<environment>/<model>.json`; of an environment of a cluster the
ConfigMap `<model>-triggers`, since a look there may be a pod that is gone with its run.
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
    """For one who has the model's lock: a look reads and writes alone."""

    def __init__(self, top: Path, environment: str, model: str) -> None:
        self._path = top / STATE / "triggers" / environment / f"{model}.json"

    def read(self) -> Any:
        try:
            return _parsed(self._path.read_text(encoding="utf-8"), str(self._path))
        except FileNotFoundError:
            return None

    def write(self, content: object) -> None:
        replace_json(self._path, content)


class ClusterLooks:
    def __init__(self, cluster: Cluster, model: str) -> None:
        self._cluster = cluster
        self._model = model
        self._name = f"{model}-triggers"
        self._version = ""

    def read(self) -> Any:
        body = self._cluster.get(CONFIG_MAP, self._name)
        if body is None:
            return None
        self._version = body["metadata"]["resourceVersion"]
        return _parsed((body.get("data") or {}).get(_KEY, ""), f"ConfigMap {self._name}")

    def write(self, content: object) -> None:
        write = self._cluster.replace if self._version else self._cluster.create
        try:
            write(CONFIG_MAP, self._body(content))
        except Stale as error:
            raise AlreadyRunning(
                f"Another look at {self._model} wrote ConfigMap {self._name} in {self._cluster.namespace} "
                "meanwhile: that one counts"
            ) from error

    def _body(self, content: object) -> Json:
        labels = {
            "app.kubernetes.io/part-of": "coalmine",
            "app.kubernetes.io/component": "triggers",
            "app.kubernetes.io/name": self._model,
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
            "what was seen of the release begins anew"
        ) from error
