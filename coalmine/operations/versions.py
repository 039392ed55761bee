"""What a release's version says about it.

patch: only the data changed; minor: code or parameters; major: the inputs or outputs, so that
whoever calls the model must look. A major release needs a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

import yaml

from coalmine.manifest import Manifest, Tensor
from coalmine.registry.repository import Repository

FIRST = "1.0.0"
CODE = Path("pipelines")

# The keys of model.yaml that shape the model; the others only judge, serve or roll it out.
SHAPING = ("dataset", "task", "target", "features", "lookups", "split", "estimator", "tuning")


class Bump(IntEnum):
    MAJOR = 0
    MINOR = 1
    PATCH = 2


def next_version(newest: str, bump: Bump) -> str:
    """Versions only grow: counted from the `newest`, also where that one was turned away."""
    parts = [int(part) for part in newest.split(".")]
    parts[bump] += 1
    return ".".join(str(part if position <= bump else 0) for position, part in enumerate(parts))


def bump_from(
    parent: Manifest,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    repository: Repository,
    code: str,
) -> Bump:
    """How a model built at the commit `code` differs from `parent`."""
    if _signature(parent.inputs) != _signature(inputs) or _signature(parent.outputs) != _signature(outputs):
        return Bump.MAJOR
    if _shape(repository, parent.code, parent.model) != _shape(repository, code, parent.model):
        return Bump.MINOR
    return Bump.PATCH


def _signature(tensors: Sequence[Tensor]) -> set[tuple[str, str]]:
    # Whether a value may be missing follows from the data; names and types are the contract.
    return {(tensor.name, tensor.datatype) for tensor in tensors}


def _shape(repository: Repository, commit: str, model: str) -> object:
    """All that a person wrote and that the model's bytes depend on, at `commit`."""
    spec = yaml.safe_load(repository.read(commit, Path("models") / model / "model.yaml"))
    pipeline = repository.read(commit, Path("models") / model / "dvc.yaml")
    code = repository.git("rev-parse", f"{commit}:{CODE}")
    return {key: spec.get(key) for key in SHAPING}, pipeline, code
