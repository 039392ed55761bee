"""Step 4: the record. Model and data in the DVC remote first, then one commit with its tag, pushed.

A kept champion is recorded as well: the same files, without a manifest and without a tag.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path

from coalmine.audit.attribution import to_trailer
from coalmine.datasets.lookups import datasets_of
from coalmine.durable import replace_text
from coalmine.errors import IntegrityError
from coalmine.evaluation.compiled.plan import compiled_folder, read_compiled
from coalmine.evaluation.reference import reference_path
from coalmine.manifest import (
    Considered,
    DatasetVersion,
    LookupTable,
    Manifest,
    Outcome,
    Predictor,
    ReleaseFile,
    Trigger,
    considered_path,
    dump_considered,
    dump_manifest,
    manifest_path,
)
from coalmine.operations.champion import lock_digest
from coalmine.operations.decide import Decided
from coalmine.operations.ingest import partitions_folder
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import Change, Tag, publish
from coalmine.registry.tags import release_tag
from coalmine.spec import Lookup, ModelSpec

# What decides how a recorded model loads and predicts.
_LIBRARIES = ("coalmine", "numpy", "onnxruntime", "pandas", "scikit-learn", "scipy", "skops")


@dataclass(frozen=True)
class Recorded:
    """How a retraining ended. version: None when the champion was kept."""

    model: str
    outcome: Outcome
    version: str | None
    champion: str | None
    reasons: tuple[str, ...]
    commit: str
    changed: bool = True  # False: nothing had changed since that decision


def record_decision(
    workspace: Workspace, spec: ModelSpec, decided: Decided, trigger: Trigger, tell: Tell
) -> Recorded:
    """Idempotent: killed anywhere and called again, there is one commit and one tag.

    Raises:
        RemoteUnavailable: run again; what is missing is pushed then.
        ReviewAwaited: nobody has merged it yet; run again to go on.
        PushRejected: somebody else released this model meanwhile, or the release was declined.
    """
    released = decided.decision.outcome is Outcome.RELEASE
    now = datetime.now(UTC).isoformat(timespec="seconds")
    considered = Considered(
        model=spec.name,
        lock=lock_digest(workspace.top, spec.name),
        version=decided.version if released else None,
        decision=decided.decision,
        decided=now,
        trigger=trigger,
    )
    pointers = [partitions_folder(name).with_name("partitions.dvc") for name in datasets_of(spec)]
    workspace.dvc.push([Path("models") / spec.name / "dvc.yaml", *pointers])
    digest = None
    if released:
        manifest = _manifest(workspace, spec, decided, trigger, now)
        replace_text(workspace.top / manifest_path(spec.name), dump_manifest(manifest))
        digest = manifest.digest
    replace_text(workspace.top / considered_path(spec.name), dump_considered(considered))
    commit = publish_decision(
        workspace, release_change(workspace, spec, considered, digest), considered, tell
    )
    tell(
        f"Recorded {spec.name} {decided.version} as {commit[:12]}."
        if released
        else f"Recorded as {commit[:12]}."
    )
    return recorded(considered, commit)


def publish_decision(workspace: Workspace, change: Change, considered: Considered, tell: Tell) -> str:
    """The commit of a decision. A kept champion changes nothing for anybody, and waits for no review."""
    if considered.version is not None:
        return workspace.publish(change, review_name(considered.model), tell)
    git = workspace.settings.git
    return publish(workspace.repository, change, git.remote, git.branch)


def review_name(model: str) -> str:
    """Of the branch by which a release is reviewed: one at a time of each model."""
    return f"{model}/release"


def recorded(considered: Considered, commit: str, *, changed: bool = True) -> Recorded:
    decision = considered.decision
    return Recorded(
        considered.model,
        decision.outcome,
        considered.version,
        decision.champion,
        decision.reasons,
        commit,
        changed,
    )


def release_change(
    workspace: Workspace, spec: ModelSpec, considered: Considered, digest: str | None
) -> Change:
    """The commit of a decision: only the paths of the release.

    digest: of the manifest; None when the champion was kept.
    """
    folder, datasets = Path("models") / spec.name, datasets_of(spec)
    written = (
        "dvc.lock",
        ".gitignore",
        "metrics.json",
        "plots",
        "tuned.json",
        "decision.yaml",
        "manifest.yaml",
    )
    ingested = ("dvc.lock", ".gitignore", "report.json", "partitions.dvc")
    paths = [folder / name for name in written]
    paths += [Path("data") / dataset / name for dataset in datasets for name in ingested]
    trailers = {
        "Model": spec.name,
        "Version": considered.version or considered.decision.champion or "none",
        "Dataset": ", ".join(
            f"{name} {workspace.dvc.dataset_digest(partitions_folder(name))}" for name in datasets
        ),
        "Decision": considered.decision.outcome.value,
        "Lock": considered.lock,
        "Triggered-By": to_trailer(considered.trigger),
    }
    if considered.trigger.because is not None:
        trailers["Because"] = " ".join(considered.trigger.because.split())
    tags: tuple[Tag, ...] = ()
    if considered.version is None:
        subject = f"Keep {spec.name} {considered.decision.champion or '(no release yet)'}"
    else:
        assert digest is not None
        subject = f"Release {spec.name} {considered.version}"
        trailers["Digest"] = digest
        # Whose signature, where there is one, is so for the digest without Git at hand too.
        message = f"{subject}\n\nDigest: {digest}"
        tags = (Tag(release_tag(spec.name, considered.version), message),)
    body = "\n".join(considered.decision.reasons)
    return Change(tuple(paths), subject, body, trailers, tags)


def _manifest(
    workspace: Workspace, spec: ModelSpec, decided: Decided, trigger: Trigger, now: str
) -> Manifest:
    from coalmine.evaluation.prepared import prepared_folder, read_split

    split = read_split(workspace.top / prepared_folder(spec.name))
    return Manifest(
        model=spec.name,
        version=decided.version,
        parent=decided.parent,
        task=spec.task,
        files=(
            _model_file(workspace, spec.name),
            *_compiled_files(workspace, spec.name),
            *_reference_file(workspace, spec.name),
        ),
        predictor=_predictor(workspace.top, spec.name),
        inputs=decided.inputs,
        features=decided.features,
        lookups=tuple(_lookup_table(workspace, lookup, decided) for lookup in spec.lookups),
        outputs=decided.outputs,
        classes=decided.classes,
        example=decided.example,
        trusted_types=decided.trusted_types,
        dataset=DatasetVersion(
            name=spec.dataset,
            md5=workspace.dvc.dataset_digest(partitions_folder(spec.dataset)),
            train=split.train.partitions,
            test=split.test.partitions,
            train_rows=split.train.rows,
            test_rows=split.test.rows,
        ),
        code=decided.code,
        estimator=spec.estimator.model_dump(mode="json", by_alias=True),
        tuning=None if spec.tuning is None else _tuned(workspace.top, spec.name),
        decision=decided.decision,
        environment={"python": platform.python_version(), **{name: installed(name) for name in _LIBRARIES}},
        created=now,
        trigger=trigger,
    )


def _lookup_table(workspace: Workspace, lookup: Lookup, decided: Decided) -> LookupTable:
    """
    Raises:
        IntegrityError: the partitions here, which the model was trained with, are not those recorded.
    """
    folder = partitions_folder(lookup.dataset)
    added = {tensor.name: tensor for tensor in decided.added}
    paths = sorted((workspace.top / folder).glob("*.parquet"))
    files = tuple(_file_by_content(folder / path.name, path.read_bytes()) for path in paths)
    if {Path(file.path).name: file.md5 for file in files} != workspace.dvc.listing(folder):
        raise IntegrityError(
            f"{folder} does not hold what {folder}.dvc records, so it cannot be released. Take the recorded "
            f"partitions: dvc checkout --force {folder}.dvc. Or record those here: coalmine ingest"
        )
    return LookupTable(
        dataset=lookup.dataset,
        md5=workspace.dvc.dataset_digest(folder),
        key=lookup.key,
        columns=tuple(added[name] for name in lookup.columns),
        missing=lookup.missing,
        files=files,
    )


def _file_by_content(path: Path, content: bytes) -> ReleaseFile:
    return ReleaseFile(
        path=path.as_posix(),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),  # as DVC names files
        size_bytes=len(content),
    )


def _model_file(workspace: Workspace, model: str) -> ReleaseFile:
    path = Path("models") / model / "model.skops"
    content = (workspace.top / path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    md5 = workspace.dvc.outs(Path("models") / model / "dvc.yaml")[path]
    return ReleaseFile(path=path.as_posix(), sha256=digest, md5=md5, size_bytes=len(content))


def _compiled_files(workspace: Workspace, model: str) -> tuple[ReleaseFile, ...]:
    paths = sorted((workspace.top / compiled_folder(model)).glob("*"))
    return tuple(_file_by_content(path.relative_to(workspace.top), path.read_bytes()) for path in paths)


def _reference_file(workspace: Workspace, model: str) -> tuple[ReleaseFile, ...]:
    """None where dvc.yaml is older than the reference, and no stage answers for a file of that name."""
    path = reference_path(model)
    if path not in workspace.dvc.outs(Path("models") / model / "dvc.yaml"):
        return ()
    return (_file_by_content(path, (workspace.top / path).read_bytes()),)


def _predictor(top: Path, model: str) -> Predictor:
    if not (top / compiled_folder(model)).exists():
        return Predictor(reason=f"models/{model}/dvc.yaml has no stage `compile`, which translates it")
    compiled = read_compiled(top / compiled_folder(model))
    return Predictor.model_validate(compiled.model_dump(include=set(Predictor.model_fields)))


def _tuned(top: Path, model: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((top / "models" / model / "tuned.json").read_text(encoding="utf-8"))
    return found
