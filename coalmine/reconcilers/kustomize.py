"""The objects that Git has for one model in one environment, as Kustomize builds them.

The folder k8s/ is taken from a commit, not from the working tree, so that what is applied is what the
record says; only slots.yaml is written as it is asked for. `kustomize` builds, or the one in `kubectl`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from coalmine.errors import MachineUnready, SpecError
from coalmine.slots import Slots, dump_slots, slots_path
from coalmine.yaml_loader import YAML_LOADER

K8S = Path("k8s")
BUILT_WITHIN_S = 60.0  # bases of other repositories are fetched meanwhile

_PROGRAMS = (("kustomize", "build"), ("kubectl", "kustomize"))

Export = Callable[[str, Sequence[Path], Path], None]  # files under these paths of a commit, into a folder


class KustomizeRender:
    """commit: which one k8s/ is taken from, when it is asked."""

    def __init__(self, export: Export, commit: Callable[[], str]) -> None:
        self._export = export
        self._commit = commit

    def __call__(self, slots: Slots) -> list[dict[str, Any]]:
        """
        Raises:
            SpecError: k8s/ does not build; with Kustomize's own words.
            MachineUnready: nothing here builds it.
        """
        with tempfile.TemporaryDirectory(prefix="coalmine-k8s-") as name:
            top, commit = Path(name), self._commit()
            self._export(commit, [K8S], top)
            file = slots_path(slots.environment, slots.model)
            (top / file).parent.mkdir(parents=True, exist_ok=True)
            (top / file).write_text(dump_slots(slots), encoding="utf-8")
            return build(top, file.parent, f"commit {commit[:12]}")


def build(top: Path, folder: Path, where: str) -> list[dict[str, Any]]:
    """What `folder`, from `top`, builds. where: whose `top` that is, for people.

    Raises:
        SpecError, MachineUnready: as above.
    """
    command = [*_program(), str(folder)]
    try:
        done = subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=BUILT_WITHIN_S)
    except subprocess.TimeoutExpired as error:
        raise SpecError(
            f"{folder} of {where} is not built within {BUILT_WITHIN_S:g} s. Does it fetch a base from a "
            "place that does not answer?"
        ) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.replace(f"{top.resolve()}/", "").split())
        words = re.sub("^error: ", "", words, flags=re.IGNORECASE)
        raise SpecError(f"{folder} of {where} does not build: {words}. See it here: {' '.join(command)}")
    objects = yaml.load_all(done.stdout, Loader=YAML_LOADER)
    return [each for each in objects if each is not None]


def _program() -> tuple[str, str]:
    """
    Raises:
        MachineUnready: none of them is on PATH.
    """
    for program in _PROGRAMS:
        if shutil.which(program[0]) is not None:
            return program
    raise MachineUnready(
        "Neither kustomize nor kubectl is on PATH, and one of them must build k8s/. Install one: "
        "https://kubectl.docs.kubernetes.io/installation/kustomize/"
    )
