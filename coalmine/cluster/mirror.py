"""The objects of one kind in one namespace, kept in memory by a watch, as client-go's reflectors do.

A mirror says what it knows, or that it does not know and the API server is to be asked: before its first
list, while its watch is broken or has been silent for too long, and, of an object that this process has just
written, until the write has come back by the watch. So nobody who reads by it misses what it wrote itself.

What another one wrote is seen some milliseconds late. Where a decision hangs on that, its write is guarded by
the version that was read, and is refused as stale.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from coalmine.cluster.client import Changes, Cluster, ClusterRefuses, ClusterUnavailable, Json
from coalmine.cluster.kinds import Kind

WATCHED_FOR_S = 10.0  # then it is asked for anew, so that one that hangs is noticed
REOPENED_WITHIN_S = 2.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
NAME_LABEL = "app.kubernetes.io/name"  # of all that belongs to a model; most lists are of one model's
ENDS_WITHIN_S = 1.0  # else with the process


class Unknown:
    """The API server is to be asked."""


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class _Doubt:
    """What the watch is known to lag behind. is_over: of the object as it is mirrored; None: it is not there.

    until_s: by then every watch has been opened anew, and has caught up with whatever it was.
    """

    is_over: Callable[[Json | None], bool]
    until_s: float


class Mirror:
    """Of `kind` in the namespace of `cluster`, once `start` was called. Safe to use from several threads."""

    def __init__(self, cluster: Cluster, kind: Kind) -> None:
        self._cluster = cluster
        self._kind = kind
        self._lock = threading.Lock()
        # As bytes: each reader gets an object of its own, sooner than by a copy.
        self._objects: dict[str, bytes] = {}
        self._marked: dict[str, str] = {}  # the label of each, so that a list parses only what it gives
        self._doubts: dict[str, _Doubt] = {}
        self._known_until_s = 0.0
        self._stopping = threading.Event()
        self._watch: Changes | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {kind.plural}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            watch, self._known_until_s = self._watch, 0.0
        if watch is not None:
            with suppress(RuntimeError, ValueError, OSError):  # it is just ending by itself
                watch.end()
        self._thread.join(ENDS_WITHIN_S)

    # --- reading ---------------------------------------------------------------------------

    def get(self, name: str) -> Json | Unknown | None:
        """None: there is no such object."""
        with self._lock:
            if not self._is_known() or not self._is_caught_up(name):
                return UNKNOWN
            return self._object(name)

    def list(self, labels: Mapping[str, str]) -> list[Json] | Unknown:
        """Those with all of `labels`."""
        with self._lock:
            if not self._is_known() or not all(self._is_caught_up(name) for name in tuple(self._doubts)):
                return UNKNOWN
            marked = labels.get(NAME_LABEL)
            found = [
                orjson.loads(content)
                for name, content in self._objects.items()
                if marked is None or self._marked.get(name) == marked
            ]
        wanted = labels.items()
        return [each for each in found if wanted <= (each["metadata"].get("labels") or {}).items()]

    def _is_known(self) -> bool:
        return time.monotonic() < self._known_until_s

    def _object(self, name: str) -> Json | None:
        content = self._objects.get(name)
        return None if content is None else orjson.loads(content)

    # --- what this process wrote -------------------------------------------------------------

    def written(self, body: Json) -> None:
        """`body` as the API server has it since a write of ours."""
        version = _number(body)
        self._doubt(body["metadata"]["name"], lambda seen: seen is not None and _number(seen) >= version)

    def deleted(self, name: str) -> None:
        self._doubt(name, lambda seen: seen is None)

    def refused(self, name: str) -> None:
        """A write of ours came too late: what is mirrored may be older than what it met."""
        with self._lock:
            before = self._object(name)
        self._doubt(name, lambda seen: seen != before)

    def _doubt(self, name: str, is_over: Callable[[Json | None], bool]) -> None:
        until_s = time.monotonic() + WATCHED_FOR_S + REOPENED_WITHIN_S
        with self._lock:
            self._doubts[name] = _Doubt(is_over, until_s)

    def _is_caught_up(self, name: str) -> bool:
        doubt = self._doubts.get(name)
        if doubt is None:
            return True
        if time.monotonic() > doubt.until_s or doubt.is_over(self._object(name)):
            del self._doubts[name]
            return True
        return False

    # --- the watch -------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                version = self._list()
                pause_s = FIRST_PAUSE_S
                while not self._stopping.is_set():
                    version = self._follow(version)
            except (ClusterUnavailable, ClusterRefuses):
                # Whoever reads meanwhile asks the API server, and says what is wrong.
                with self._lock:
                    self._known_until_s = 0.0
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _list(self) -> str:
        items, version = self._cluster.snapshot(self._kind)
        names = {"apiVersion": self._kind.api_version, "kind": self._kind.kind}  # a list leaves them out
        objects = {each["metadata"]["name"]: orjson.dumps({**names, **each}) for each in items}
        marked = {each["metadata"]["name"]: _mark(each) for each in items}
        with self._lock:
            self._objects, self._marked = objects, marked
            self._known_until_s = time.monotonic() + REOPENED_WITHIN_S
        return version

    def _follow(self, version: str) -> str:
        """The version of what was told last, at the end of one watch."""
        with self._cluster.changes(self._kind, version, WATCHED_FOR_S) as watch:
            with self._lock:
                self._watch = watch
                self._known_until_s = time.monotonic() + WATCHED_FOR_S + REOPENED_WITHIN_S
            for change in watch.stream:
                version = change["object"]["metadata"]["resourceVersion"]
                self._take(change)
        with self._lock:
            self._watch = None
            self._known_until_s = time.monotonic() + REOPENED_WITHIN_S
        return version

    def _take(self, change: Mapping[str, Any]) -> None:
        name = change["object"]["metadata"].get("name", "")
        with self._lock:
            match change["type"]:
                case "ADDED" | "MODIFIED":
                    self._objects[name] = orjson.dumps(change["object"])
                    self._marked[name] = _mark(change["object"])
                case "DELETED":
                    self._objects.pop(name, None)
                    self._marked.pop(name, None)


def _mark(body: Json) -> str:
    mark: str = (body["metadata"].get("labels") or {}).get(NAME_LABEL, "")
    return mark


def _number(body: Json) -> int:
    """Versions of one kind can be compared: https://kubernetes.io/docs/reference/using-api/api-concepts/."""
    return int(body["metadata"]["resourceVersion"])
