"""Which models are due to be retrained, and why: what was seen, put before the rules of coalmine.triggers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coalmine.datasets.lookups import datasets_of
from coalmine.errors import CoalmineError, RepositoryUnready
from coalmine.operations.champion import considered
from coalmine.operations.ingest import partitions_folder
from coalmine.operations.retrain import require_ready
from coalmine.operations.workspace import Workspace
from coalmine.registry.repository import Commit
from coalmine.spec import YAML_LOADER, ModelSpec, load_model_spec, model_names
from coalmine.triggers.cause import Cause
from coalmine.triggers.change import Edit, cause_of, version_that_changed


@dataclass(frozen=True)
class Due:
    """
    causes: what its model.yaml says it is retrained for; none, and it is not due.
    notes: what was seen and makes it not due, in sentences for people.
    """

    model: str
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DueModels:
    """What a look found, of every model that was looked at."""

    models: tuple[Due, ...]


def due(workspace: Workspace, models: Sequence[str] = ()) -> DueModels:
    """models: those that are looked at; none named, all. A model that cannot be looked at says so in its
    notes, and the others are looked at all the same."""
    return DueModels(tuple(_due(workspace, model) for model in models or model_names(workspace.top)))


def _due(workspace: Workspace, model: str) -> Due:
    try:
        spec = load_model_spec(workspace.top, model)
        return _of_change(workspace, spec)
    except CoalmineError as error:
        return Due(model, notes=(str(error),))


# --- by a change -----------------------------------------------------------------------


def _of_change(workspace: Workspace, spec: ModelSpec) -> Due:
    for dataset in datasets_of(spec):
        if not (workspace.top / f"{partitions_folder(dataset)}.dvc").exists():
            return Due(spec.name, notes=(f"data/{dataset} holds no data yet: coalmine ingest {dataset}",))
    keys_by_path = _changed(workspace, spec.name)
    if not keys_by_path:
        return Due(spec.name)
    try:
        require_ready(workspace, spec)
        workspace.repository.require_clean(keys_by_path)
    except RepositoryUnready as error:
        return Due(spec.name, notes=(f"changed, and cannot be retrained here: {error}",))
    cause = cause_of(_edits(workspace, keys_by_path))
    if not spec.retrain.on_change:
        off = f"`retrain.on_change` in models/{spec.name}/model.yaml is off"
        return Due(spec.name, notes=(f"{cause.because}. {off}",))
    return Due(spec.name, causes=(cause,))


def _changed(workspace: Workspace, model: str) -> dict[Path, tuple[str, ...]]:
    """The files that changed since the model's lock, and the keys of those that are read by key; the lock
    itself where somebody reproduced the stages by hand and committed it, and nobody has decided on that."""
    folder = Path("models") / model
    keys_by_path: dict[Path, tuple[str, ...]] = {}
    for change in workspace.dvc.changes(folder / "dvc.yaml"):
        keys = (*keys_by_path.get(change.path, ()), *change.keys)
        keys_by_path[change.path] = tuple(dict.fromkeys(keys))
    last, lock = considered(workspace.repository, model), folder / "dvc.lock"
    (committed,) = workspace.repository.read_all([f"HEAD:{lock.as_posix()}"])
    decided = None if last is None else last.lock
    if committed is not None and hashlib.sha256(committed).hexdigest() != decided:
        keys_by_path[lock] = ()
    return keys_by_path


def _edits(workspace: Workspace, keys_by_path: dict[Path, tuple[str, ...]]) -> list[Edit]:
    """Newest commit first."""
    found = [(path, keys, _commit_of(workspace, path, keys)) for path, keys in keys_by_path.items()]
    found.sort(key=lambda each: each[2].at, reverse=True)
    return [Edit(path, keys, commit.sha, commit.author) for path, keys, commit in found]


def _commit_of(workspace: Workspace, path: Path, keys: Sequence[str]) -> Commit:
    """Who changed `path`; where it is read by key, those keys of it."""
    repository = workspace.repository
    if not keys:
        commit = repository.newest(path)
        assert commit is not None  # `require_clean`: it stands in Git
        return commit
    commits = list(repository.log([path]))
    texts = repository.read_all([f"{commit.sha}:{path.as_posix()}" for commit in commits])
    return commits[version_that_changed([_keys_in(text) for text in texts], keys)]


def _keys_in(text: bytes | None) -> dict[str, Any]:
    """Nothing of a version in which the file was not there, or was no YAML."""
    try:
        content = None if text is None else yaml.load(text, Loader=YAML_LOADER)
    except yaml.YAMLError:
        content = None
    return content if isinstance(content, dict) else {}
