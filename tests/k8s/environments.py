"""Environments as `coalmine new environment` writes them, with slots in every state, built by Kustomize."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.scaffold.environment import Remotes, Wanted, new_environment
from coalmine.scaffold.template import template_files
from coalmine.slots import SlotPod, SlotRelease, Slots, dump_slots, slots_path

Json = dict[str, Any]

ENVIRONMENT = "production"
NAMESPACE = "models"
MODEL = "flight-delays"
OTHER = "credit-risk"  # the second example, whose slots are empty
ROUTERS = ("gateway_api", "istio", "linkerd", "appmesh")
RECONCILERS = ("flux", "apply")
REMOTES = Remotes("https://git.example.com/team/models.git", "main", "s3://models/dvc")

# What a manifest may hold, and YAML treats in its own way.
MANIFEST = f"""\
# A comment, and spaces behind it:\x20\x20
description: Wird der Flug später als 15 Minuten ankommen? \u2708
long: {" ".join(f"word{i}" for i in range(60))}
text: |
  "quotes", 'both', and a tab:\t.

"yes": no
digits: "0123"
"""


# --- slots -----------------------------------------------------------------------------


def release(version: str, manifest: str = MANIFEST) -> tuple[SlotRelease, SlotPod]:
    text = f"{manifest}version: {version}\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    pod = SlotPod(
        version=version,
        digest=digest,
        image=f"registry.example.com/models@sha256:{digest}",
        manifest=text,
        timeout_s="2.0",
        queue="1024",
    )
    return SlotRelease(version=version, commit="c" * 40, model_digest=digest), pod


EMPTY = Slots(environment=ENVIRONMENT, model=MODEL)
FIRST = EMPTY.with_candidate(*release("1.0.0"))  # handed over, and nobody sent to it yet
ONE = FIRST.with_promotion()
TWO = ONE.with_candidate(*release("1.1.0"))
PROMOTED = TWO.with_promotion()
REJECTED = TWO.with_rejection()
STATES = {
    "empty": EMPTY,
    "first candidate": FIRST,
    "one release": ONE,
    "a candidate": TWO,
    "both after a promotion": PROMOTED,
    "one after a rejection": REJECTED,
}


# --- an environment --------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """The objects of one build, by kind and name."""

    objects: list[Json]

    def of(self, kind: str, model: str = MODEL) -> dict[str, Json]:
        return {
            each["metadata"]["name"]: each
            for each in self.objects
            if each["kind"] == kind and each["metadata"]["name"].startswith(f"{model}-")
        }

    def one(self, kind: str, name: str) -> Json:
        (found,) = [
            each for each in self.objects if each["kind"] == kind and each["metadata"]["name"] == name
        ]
        return found


@dataclass(frozen=True)
class Repository:
    """One with an environment, in `top`. router: of the environment."""

    top: Path
    router: str

    @property
    def folder(self) -> Path:
        return self.top / "k8s/environments" / ENVIRONMENT

    def fill(self, slots: Slots) -> None:
        (self.top / slots_path(ENVIRONMENT, slots.model)).write_text(dump_slots(slots))

    def edit(self, file: str, change: Callable[[Json], None]) -> None:
        """As people do: `change` the content of a YAML file of the environment."""
        path = self.folder / file
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def add_component(self, name: str, file: str = f"{MODEL}/kustomization.yaml") -> None:
        depth = "../" * len(Path(file).parts)

        def add(content: Json) -> None:
            content.setdefault("components", []).append(f"{depth}../components/{name}")

        self.edit(file, add)

    def build(self, folder: str = "") -> Built:
        done = subprocess.run(
            [*builder(), str(self.folder / folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return Built([each for each in yaml.safe_load_all(done.stdout) if each is not None])

    def flux_objects(self) -> list[Json]:
        path = self.folder / "flux.yaml"
        return list(yaml.safe_load_all(path.read_text())) if path.exists() else []


class AsWritten:
    """The environment of `repository` in whichever state of the slots of MODEL."""

    def __init__(self, repository: Repository) -> None:
        self.router = repository.router
        self._repository = repository
        self._built: dict[str, Built] = {}

    def of(self, slots: Slots) -> Built:
        text = dump_slots(slots)
        if text not in self._built:
            self._repository.fill(slots)
            self._built[text] = self._repository.build()
        return self._built[text]


def new_repository(
    top: Path, router: str, reconciler: str = "flux", models: Iterable[str] = (MODEL, OTHER)
) -> Repository:
    for path, text in template_files().items():
        is_model = path.match("models/*/model.yaml") and path.parent.name in models
        if is_model or path.parts[0] == "k8s" or path == Path("coalmine.yaml"):
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(text)
    addresses: Mapping[str, str] = {}
    if router in ("gateway_api", "istio"):
        addresses = {"host": "models.example.com", "gateway": "gateways/users"}
    wanted = Wanted(router, reconciler, namespace=NAMESPACE, **addresses)
    new_environment(top, ENVIRONMENT, wanted, REMOTES)
    return Repository(top, router)


def builder() -> tuple[str, str]:
    for program in (("kustomize", "build"), ("kubectl", "kustomize")):
        if shutil.which(program[0]) is not None:
            return program
    pytest.skip("neither kustomize nor kubectl is on PATH")
