"""Every split of a model that is written for Envoy while a block runs, in order."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coalmine.routers.routes import split_of
from coalmine.routers.xds import XdsFiles
from coalmine.slots import Slot

LOOK_EVERY_S = 0.003  # two acts of one rollout are at least a poll apart


class RouteWatch:
    """splits: slot to percent, one for each time that the file was replaced."""

    def __init__(self, folder: Path, model: str) -> None:
        self._path = XdsFiles(folder).routes_path
        self._model = model
        self._ending = threading.Event()
        self._version: str | None = None
        self.splits: list[dict[Slot, int]] = []
        self._look()
        self.thread = threading.Thread(target=self._repeat, name="route watch")

    def weights_since(self, count: int, slot: Slot) -> list[int]:
        return [split[slot] for split in self.splits[count:]]

    def end(self) -> None:
        self._ending.set()
        self.thread.join()
        self._look()

    def _repeat(self) -> None:
        while not self._ending.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        content = json.loads(self._path.read_text(encoding="utf-8"))
        if content["version_info"] == self._version:
            return
        self._version = content["version_info"]
        split = split_of(self._model, content["resources"][0]["virtual_hosts"][0]["routes"])
        if split is not None:
            self.splits.append({slot: split.weights[slot] for slot in Slot})


@contextmanager
def watching_routes(folder: Path, model: str) -> Iterator[RouteWatch]:
    watch = RouteWatch(folder, model)
    watch.thread.start()
    try:
        yield watch
    finally:
        watch.end()
