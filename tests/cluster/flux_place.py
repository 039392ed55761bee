"""A Git remote that Flux reads, and the objects that have it brought into a namespace.

Flux's controllers must reach this machine: COALMINE_TEST_HOST where they run elsewhere.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import GIT_REPOSITORY, KUSTOMIZATION, Kind
from coalmine.reconcilers.flux import FluxReconciler, Pushed
from coalmine.rollout.ports import SlotStatus
from coalmine.settings import FluxSettings
from coalmine.slots import Slot, Slots
from tests.cluster.git_server import serving_git
from tests.cluster.slot_objects import objects_of

HOST = os.environ.get("COALMINE_TEST_HOST", "127.0.0.1")
FLUX = FluxSettings(kustomization="coalmine", namespace="default")

Json = dict[str, Any]


@dataclass(frozen=True)
class FluxPlace:
    """top: the working tree. The folder `m` of its branch main comes to the namespace of `cluster`."""

    cluster: Cluster
    top: Path
    url: str

    def change(self, kind: Kind, spec: Json) -> None:
        """Of Flux's own object, for which nobody waits."""
        self.cluster.merge(kind, FLUX.kustomization, {"spec": spec})

    def push(self, files: dict[str, str]) -> str:
        """The commit in which the folder `m` holds these files and no others."""
        folder = self.top / "m"
        for old in folder.glob("*"):
            old.unlink()
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A change")
        self.git("push", "--quiet", "origin", "main")
        return self.git("rev-parse", "HEAD")

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.top), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def is_before(self, commit: str, other: str) -> bool:
        command = ["git", "-C", str(self.top), "merge-base", "--is-ancestor", commit, other]
        return subprocess.run(command, capture_output=True).returncode == 0


@contextmanager
def flux_place(cluster: Cluster, folder: Path) -> Iterator[FluxPlace]:
    """Both objects in the very namespace, so that they go with it."""
    remote, top = folder / "served" / "shop.git", folder / "top"
    for words in (
        ["init", "--quiet", "--bare", "--initial-branch", "main", str(remote)],
        ["init", "--quiet", "--initial-branch", "main", str(top)],
        ["-C", str(top), "config", "user.name", "A tester"],
        ["-C", str(top), "config", "user.email", "tester@coalmine.invalid"],
        ["-C", str(top), "remote", "add", "origin", str(remote)],
    ):
        subprocess.run(["git", *words], check=True)
    with serving_git(remote.parent, HOST) as url:
        place = FluxPlace(cluster, top, f"{url}/{remote.name}")
        place.push({"kustomization.yaml": yaml.dump({"resources": []})})
        name = {"name": FLUX.kustomization}
        cluster.create(
            GIT_REPOSITORY,
            {
                "apiVersion": GIT_REPOSITORY.api_version,
                "kind": GIT_REPOSITORY.kind,
                "metadata": name,
                "spec": {"url": place.url, "ref": {"branch": "main"}, "interval": "10s"},
            },
        )
        cluster.create(
            KUSTOMIZATION,
            {
                "apiVersion": KUSTOMIZATION.api_version,
                "kind": KUSTOMIZATION.kind,
                "metadata": name,
                "spec": {
                    "sourceRef": {"kind": GIT_REPOSITORY.kind, **name},
                    "path": "./m",
                    "targetNamespace": cluster.namespace,
                    "interval": "10s",
                    "prune": True,
                    "wait": False,
                },
            },
        )
        yield place


@dataclass
class Delivering:
    """A FluxReconciler before which somebody commits the slots, as a delivery does."""

    place: FluxPlace
    within_s: float = 60.0
    images: dict[str, str] = field(default_factory=dict)
    pushed: str = ""
    flux: FluxReconciler = field(init=False)

    def __post_init__(self) -> None:
        settings = FLUX.model_copy(update={"namespace": self.place.cluster.namespace})
        pushed = Pushed("main", lambda: self.pushed, self.place.is_before)
        self.flux = FluxReconciler(self.place.cluster, "m", settings, pushed, self.within_s)

    def commit(self, slots: Slots) -> str:
        self.pushed = self.place.push(files_of(objects_of(slots, self.images)))
        return self.pushed

    def reconcile(self, slots: Slots) -> None:
        self.commit(slots)
        self.flux.reconcile(slots)

    def status(self, slot: Slot) -> SlotStatus:
        return self.flux.status(slot)


def files_of(objects: Sequence[Json]) -> dict[str, str]:
    return {
        "kustomization.yaml": yaml.dump({"resources": ["objects.yaml"]}),
        "objects.yaml": yaml.dump_all(objects),
    }
