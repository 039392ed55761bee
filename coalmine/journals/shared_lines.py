"""`Lines` of one rollout in a ConfigMap, to which any process on any machine may add."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from coalmine.cluster.client import Cluster, ClusterUnavailable, Json, Stale
from coalmine.cluster.kinds import CONFIG_MAP
from coalmine.errors import IntegrityError, NotFound
from coalmine.journals.cluster_objects import config_map, rollout_of
from coalmine.journals.lines import is_among

_KEY = "lines.jsonl"
_TRIES = 50  # as many write at once at the very most


class SharedLines:
    """Those of `rollout` in the ConfigMap `name`; lines of an earlier rollout there give way to the first."""

    def __init__(self, cluster: Cluster, name: str, model: str, rollout: str) -> None:
        self._cluster = cluster
        self._name = name
        self._model = model
        self._rollout = rollout

    def read(self) -> list[dict[str, Any]]:
        return self._lines(self._cluster.get(CONFIG_MAP, self._name))

    def add(self, line: Mapping[str, object], once: Sequence[str] = ()) -> bool:
        """
        Raises:
            NotFound: lines of a later rollout are there: this one is over.
        """
        for _ in range(_TRIES):
            there = self._cluster.get(CONFIG_MAP, self._name)
            lines = self._lines(there)
            if is_among(lines, line, once):
                return False
            try:
                self._write(there, [*lines, line])
            except Stale:
                continue  # somebody else added one
            return True
        raise ClusterUnavailable(f"ConfigMap {self._name} is written by others all the time: try again")

    def _write(self, there: Json | None, lines: Sequence[Mapping[str, object]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
        body = config_map(self._name, self._model, self._rollout, {_KEY: text})
        if there is None:
            self._cluster.create(CONFIG_MAP, body)
            return
        if rollout_of(there) > self._rollout:
            later = rollout_of(there)
            raise NotFound(f"Rollout {self._rollout} of {self._model} is over: {later} came after it.")
        body["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
        self._cluster.replace(CONFIG_MAP, body)

    def _lines(self, body: Json | None) -> list[dict[str, Any]]:
        if body is None or rollout_of(body) != self._rollout:
            return []
        try:
            return [json.loads(line) for line in body["data"][_KEY].split("\n")[:-1]]
        except (KeyError, ValueError) as error:
            raise IntegrityError(
                f"ConfigMap {self._name} in {self._cluster.namespace} is written by coalmine and cannot be "
                f"read ({type(error).__name__}: {error}). Delete it: it is written anew"
            ) from error
