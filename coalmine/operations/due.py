"""Which models are due to be retrained, and why: what was seen, put before the rules of coalmine.triggers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from coalmine.datasets.lookups import datasets_of
from coalmine.errors import CoalmineError, RepositoryUnready
from coalmine.evaluation.reference import Reference, parse_reference, reference_path
from coalmine.manifest import Manifest
from coalmine.operations.champion import considered, release
from coalmine.operations.environments import open_environment
from coalmine.operations.ingest import partitions_folder
from coalmine.operations.retrain import require_ready
from coalmine.operations.workspace import Workspace
from coalmine.registry.releases import read_released
from coalmine.registry.repository import Commit
from coalmine.retrain_spec import OnDrift, OnQuality, Retrain
from coalmine.rollout.evidence import AnswerCounts
from coalmine.spec import ModelSpec, load_model_spec, model_names
from coalmine.triggers import quality
from coalmine.triggers.cause import Cause
from coalmine.triggers.change import Edit, cause_of, version_that_changed
from coalmine.triggers.drift import Drift
from coalmine.triggers.watched import Watched, against
from coalmine.yaml_loader import YAML_LOADER


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


def due(workspace: Workspace, models: Sequence[str] = (), environment: str = "local") -> DueModels:
    """models: those that are looked at; none named, all. environment: whose stable releases are watched.

    A model that cannot be looked at says so in its notes, and the others are looked at all the same.
    """
    names = models or model_names(workspace.top)
    return DueModels(tuple(_due(workspace, model, environment) for model in names))


def _due(workspace: Workspace, model: str, environment: str) -> Due:
    try:
        spec = load_model_spec(workspace.top, model)
    except CoalmineError as error:
        return Due(model, notes=(str(error),))
    looks = [
        _noting(model, lambda: _of_change(workspace, spec)),
        _noting(model, lambda: _of_watching(workspace, spec, environment)),
    ]
    return Due(
        model,
        tuple(cause for look in looks for cause in look.causes),
        tuple(note for look in looks for note in look.notes),
    )


def _noting(model: str, look: Callable[[], Due]) -> Due:
    try:
        return look()
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


# --- by what is seen of the stable release -----------------------------------------------


def _of_watching(workspace: Workspace, spec: ModelSpec, environment: str) -> Due:
    if spec.retrain.on_quality is None and spec.retrain.on_drift is None:
        return Due(spec.name)
    serving = open_environment(workspace, environment)
    slots = serving.slots(spec.name)
    if slots.stable is None or slots.stable_release is None:
        return Due(spec.name, notes=(f"it serves nobody in {environment}",))
    manifest = release(workspace.repository, spec.name, slots.stable_release.version).manifest
    with workspace.alone(f"look {environment} {spec.name}", "coalmine due"):
        looks = serving.looks(spec.name)
        kept = looks.read()
        before = None if kept is None else Watched.from_json(kept)
        if before is None or before.digest != manifest.digest:
            before = Watched.begin(manifest.digest)
        now_s = time.time()
        watched, new = before.with_answers(serving.answers(spec, slots.stable))
        if spec.retrain.on_quality is not None:
            watched = _with_labels(watched, new, manifest, spec.retrain.on_quality)
        if spec.retrain.on_drift is not None:
            watched = _with_rows(watched, new, workspace, manifest, spec.retrain.on_drift, now_s)
        looks.write(watched.to_json())
    return _seen(watched, manifest, spec.retrain, environment, now_s)


def _with_labels(
    watched: Watched, new: Sequence[AnswerCounts], manifest: Manifest, asked: OnQuality
) -> Watched:
    limit = quality.limit_of(manifest, asked)
    if limit is None:
        return watched
    labels, loss = sum(counts.labels for counts in new), sum(counts.loss for counts in new)
    test = against(watched.quality, (limit,)).with_counts(labels, (min(loss, labels),))
    return replace(watched, quality=test)


def _with_rows(
    watched: Watched,
    new: Sequence[AnswerCounts],
    workspace: Workspace,
    manifest: Manifest,
    asked: OnDrift,
    now_s: float,
) -> Watched:
    drift = watched.drift
    if drift is None or drift.asked != asked:
        reference = _reference(workspace, manifest) if drift is None else drift.reference
        if reference is None:
            return watched
        drift = Drift.begin(reference, asked, now_s)
    return replace(watched, drift=drift.with_rows([counts.binned for counts in new], now_s))


def _reference(workspace: Workspace, manifest: Manifest) -> Reference | None:
    """None of a release from before there were any."""
    path = reference_path(manifest.model).as_posix()
    for file in manifest.files:
        if file.path == path:
            return parse_reference(read_released(workspace.dvc, file), path)
    return None


def _seen(watched: Watched, manifest: Manifest, asked: Retrain, environment: str, now_s: float) -> Due:
    who = f"{manifest.model} {manifest.version} in {environment}"
    # Once a day for as long as it lasts: there may be new rows to learn from.
    key = f"{manifest.digest[:12]}-{datetime.fromtimestamp(now_s, UTC):%Y%m%d}"
    causes, notes = [], []
    if asked.on_quality is not None:
        if watched.quality is None:
            notes.append(f"{who} has no `{quality.METRIC}` in its manifest, so that its labels show nothing")
        else:
            said = f"{who}: {quality.sentence(watched.quality, manifest, asked.on_quality)}"
            if quality.is_worse(watched.quality, asked.on_quality):
                causes.append(
                    Cause(kind="quality", who=f"the labels of {who}", because=said, key=f"quality-{key}")
                )
            else:
                notes.append(said)
    if asked.on_drift is not None:
        if watched.drift is None:
            notes.append(
                f"{who} keeps no distribution of what it was made of, so that no shift shows. The next "
                f"one does where `evaluate` in models/{manifest.model}/dvc.yaml makes reference.json"
            )
        else:
            said = f"{who}: {watched.drift.sentence(now_s)}"
            if watched.drift.shifted:
                causes.append(
                    Cause(kind="drift", who=f"the requests to {who}", because=said, key=f"drift-{key}")
                )
            else:
                notes.append(said)
    return Due(manifest.model, tuple(causes), tuple(notes))
