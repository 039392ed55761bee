"""A release built again from its record, and compared with it: code by commit, data by digest.

All of it happens in a clone apart with a DVC cache of its own. Of what the stages made nothing is taken,
neither from a cache nor from the DVC remote; the data come from the remote.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from coalmine.manifest import Manifest
from coalmine.operations.champion import Release, release
from coalmine.operations.differences import Cause, Difference, by_cause, lock_differences
from coalmine.operations.ingest import partitions_folder
from coalmine.operations.libraries import library_differences, recorded_python
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.dvc import DvcProject
from coalmine.registry.scratch import scratch_clone
from coalmine.yaml_loader import YAML_LOADER


@dataclass(frozen=True)
class Reproduced:
    """How a release came out when it was built again.

    equal: every file of the release has the recorded digest, and whatever the stages were given and made,
        metrics included, is what their lock records.
    differences: what is not, its cause first; other libraries stand here too, also where all is equal.
    files: of the release. folder: where it was built, if that was kept.
    """

    model: str
    version: str
    commit: str
    code: str
    equal: bool
    differences: tuple[Difference, ...]
    files: int
    folder: Path | None


def reproduce(
    workspace: Workspace, model: str, version: str, tell: Tell, *, keep: bool = False
) -> Reproduced:
    """Run the stages of `model` from nothing, as release `version` records them, and compare.

    Raises:
        NotFound: no such release or commit here, or data that the DVC remote does not have.
        RemoteUnavailable: the DVC remote is away.
        MachineUnready: the environment of the release cannot be made here.
        InputError: a stage refuses its input; the message is the stage's own.
    """
    wanted = release(workspace.repository, model, version.removeprefix("v"))
    manifest = wanted.manifest
    with scratch_clone(workspace.repository, manifest.code, keep=keep) as top:
        tell(f"The code of {model} {manifest.version}, {manifest.code[:12]}, is in {top}.")
        differences = list(_place_data(workspace, wanted, top))
        if not differences:
            differences = _build(workspace, wanted, top, tell)
        return Reproduced(
            model,
            manifest.version,
            wanted.commit,
            manifest.code,
            equal=all(found.cause is Cause.ENVIRONMENT for found in differences),
            differences=by_cause(differences),
            files=len(manifest.files),
            folder=top if keep else None,
        )


def _place_data(workspace: Workspace, wanted: Release, top: Path) -> Iterator[Difference]:
    """The pointers to the partitions; a difference where the release's commit has others than it says."""
    for name, digest in wanted.manifest.dataset_digests.items():
        pointer = _pointer(name)
        (top / pointer).write_bytes(workspace.repository.read(wanted.commit, pointer))
        found = DvcProject(top).dataset_digest(partitions_folder(name))
        if found != digest:
            yield Difference(Cause.DATA, str(partitions_folder(name)), digest, found)


def _pointer(dataset: str) -> Path:
    folder = partitions_folder(dataset)
    return folder.with_name(f"{folder.name}.dvc")


def _build(workspace: Workspace, wanted: Release, top: Path, tell: Tell) -> list[Difference]:
    manifest, dvc = wanted.manifest, DvcProject(top)
    python, libraries = _interpreter(manifest, top, tell)
    dvc.pull([_pointer(name) for name in manifest.dataset_digests])
    model = Path("models") / manifest.model
    for folder in (*(Path("data") / name for name in manifest.dataset_digests), model):
        (top / folder / "dvc.lock").unlink(missing_ok=True)  # without one, every stage runs
        tell(f"{folder}: running every stage.")
        dvc.reproduce(folder / "dvc.yaml", python=python)
    lock = model / "dvc.lock"
    recorded = yaml.load(workspace.repository.read(wanted.commit, lock), Loader=YAML_LOADER)
    found = yaml.load((top / lock).read_bytes(), Loader=YAML_LOADER)
    return [*libraries, *lock_differences(recorded, found), *_file_differences(manifest, top)]


def _interpreter(manifest: Manifest, top: Path, tell: Tell) -> tuple[Path, list[Difference]]:
    """What the stages run with, and where even that is not what is recorded."""
    here = Path(sys.executable)
    differences = library_differences(manifest.environment, here)
    # No other coalmine can be installed: for that alone, another environment would bring nothing.
    if all(found.what == "coalmine" for found in differences):
        return here, differences
    tell("Other libraries than here: " + "; ".join(map(str, differences)) + ". Making an environment.")
    python = recorded_python(manifest.environment, top, top.parent / "environment")
    recorded = {name: version for name, version in manifest.environment.items() if name != "coalmine"}
    ours = [found for found in differences if found.what == "coalmine"]
    return python, [*ours, *library_differences(recorded, python)]


def _file_differences(manifest: Manifest, top: Path) -> Iterator[Difference]:
    for file in manifest.files:
        path = top / file.path
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "not made"
        if found != file.sha256:
            yield Difference(Cause.DIGEST, f"sha256 of {file.path}", file.sha256, found)
