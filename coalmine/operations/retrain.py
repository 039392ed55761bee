"""A retraining, steps 1 to 4: new data in, model trained, release decided, decision recorded.

Each step is safe to repeat: killed anywhere and run again, it ends as it would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from coalmine.datasets.lookups import datasets_of, require_lookups
from coalmine.errors import NotFound
from coalmine.manifest import (
    Considered,
    Outcome,
    Trigger,
    considered_path,
    manifest_path,
    parse_considered,
    parse_manifest,
)
from coalmine.operations.champion import considered, lock_digest
from coalmine.operations.decide import decide_release
from coalmine.operations.ingest import NewData, ingest, partitions_folder, wanted_of
from coalmine.operations.record import (
    Recorded,
    publish_decision,
    record_decision,
    recorded,
    release_change,
    review_name,
)
from coalmine.operations.steps import Step, Steps, directly
from coalmine.operations.train import train, validate
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import Change, Tag
from coalmine.registry.tags import release_tag, releases
from coalmine.registry.upstream import Upstream
from coalmine.spec import ModelSpec, load_dataset_spec, load_model_spec


def retrain(
    workspace: Workspace,
    model: str,
    trigger: Trigger,
    tell: Tell,
    *,
    data: NewData | Sequence[str] = NewData.NONE,
    steps: Steps = directly,
) -> Recorded:
    """
    data: what to ingest first; partitions by name, or which of those that the source offers. The
        datasets of the model's lookups take in the same.

    Raises:
        InputError: what to mend; nothing was recorded.
        AlreadyRunning: another retraining of this model.
        RemoteUnavailable, ReviewAwaited: run again to finish.
    """
    spec = load_model_spec(workspace.top, model)
    with workspace.alone(f"retrain {model}", trigger.who):
        require_ready(workspace, spec)
        if workspace.settings.git.review is not None:
            _settle_review(workspace, model)
        if data is not NewData.NONE:
            for dataset, wanted in wanted_of(workspace.top, spec, data).items():
                steps(Step.INGEST, partial(ingest, workspace, dataset, wanted, tell))
        _require_data(workspace, spec)
        for dataset in datasets_of(spec):
            steps(Step.VALIDATE, partial(validate, workspace, dataset, tell))
        steps(Step.TRAIN, lambda: train(workspace, model, tell))
        last = considered(workspace.repository, model)
        if (
            last is not None
            and last.lock == lock_digest(workspace.top, model)
            and not _may_end_otherwise(last, trigger)
        ):
            tell(f"Nothing changed since the last decision about {model}, of {last.decided}.")
            return _make_good(workspace, spec, tell)
        proposed = _proposed(workspace, spec)
        if proposed is not None:
            tell(f"{model} {proposed.considered.version} waits for its review.")
            return _await_review(workspace, spec, proposed, tell)
        decided = steps(Step.DECIDE, lambda: decide_release(workspace, spec, trigger, tell))
        return steps(Step.RECORD, lambda: record_decision(workspace, spec, decided, trigger, tell))


def require_ready(workspace: Workspace, spec: ModelSpec) -> None:
    """What a release is built from must stand in Git, on the branch where releases are recorded.

    Raises:
        RepositoryUnready: it does not.
        SpecError, NotFound: a dataset that the model names cannot be used.
    """
    workspace.require_record()
    load_dataset_spec(workspace.top, spec.dataset)
    require_lookups(workspace.top, spec)
    written = [f"data/{name}/{file}" for name in datasets_of(spec) for file in ("dataset.yaml", "dvc.yaml")]
    workspace.repository.require_clean(
        [
            "pipelines",
            "dvc.yaml",
            f"models/{spec.name}/model.yaml",
            f"models/{spec.name}/dvc.yaml",
            *written,
        ]
    )


def _may_end_otherwise(last: Considered, trigger: Trigger) -> bool:
    """A person who asks again may release what nobody but a person may."""
    kept = last.decision.outcome is Outcome.KEEP
    return kept and last.trigger.kind != "person" and trigger.kind == "person"


def _require_data(workspace: Workspace, spec: ModelSpec) -> None:
    for dataset in datasets_of(spec):
        folder = partitions_folder(dataset)
        if not (workspace.top / f"{folder}.dvc").exists():
            raise NotFound(
                f"{folder} holds no data yet. Take it in first: coalmine retrain {spec.name} --data all, "
                f"or only: coalmine ingest {dataset}"
            )
        if not (workspace.top / folder).exists():
            raise NotFound(f"{folder} is recorded, and not on this machine: dvc pull {folder}.dvc")


def _settle_review(workspace: Workspace, model: str) -> None:
    """A release that was merged while nobody waited gets its tag: else its version would be given twice."""
    repository, name = workspace.repository, review_name(model)
    here = repository.log((manifest_path(model),), _release_of(model))
    merged = workspace.awaiting_review(name, _release_of(model)) or next(here, None)
    if merged is not None and merged.trailers["Version"] not in releases(repository, model):
        tag = Tag(release_tag(model, merged.trailers["Version"]), merged.subject)
        workspace.settle_review(Change((), merged.subject, "", merged.trailers, (tag,)), name)


def _release_of(model: str) -> dict[str, str]:
    return {"Model": model, "Decision": Outcome.RELEASE.value}


@dataclass(frozen=True)
class _Proposed:
    considered: Considered
    digest: str  # of the manifest


def _proposed(workspace: Workspace, spec: ModelSpec) -> _Proposed | None:
    """The release that an earlier call made of just what is here now, and that nobody has merged yet."""
    commit = workspace.awaiting_review(review_name(spec.name), _release_of(spec.name))
    if commit is None or commit.trailers.get("Lock") != lock_digest(workspace.top, spec.name):
        return None
    text = workspace.repository.read(commit.sha, considered_path(spec.name)).decode()
    return _Proposed(parse_considered(text, f"the release in {commit.sha[:12]}"), commit.trailers["Digest"])


def _await_review(workspace: Workspace, spec: ModelSpec, proposed: _Proposed, tell: Tell) -> Recorded:
    change = release_change(workspace, spec, proposed.considered, proposed.digest)
    return recorded(proposed.considered, publish_decision(workspace, change, proposed.considered, tell))


def _make_good(workspace: Workspace, spec: ModelSpec, tell: Tell) -> Recorded:
    """The last decision; pushed, if an earlier call was ended between its commit and its push."""
    repository, git = workspace.repository, workspace.settings.git
    last = considered(repository, spec.name)
    assert last is not None
    commit = repository.head()
    if Upstream(repository, git.remote, git.branch).unpushed():
        digest = None
        if last.version is not None:
            path = manifest_path(spec.name)
            digest = parse_manifest((workspace.top / path).read_text(encoding="utf-8"), str(path)).digest
        commit = publish_decision(workspace, release_change(workspace, spec, last, digest), last, tell)
    return recorded(last, commit, changed=False)
