"""Step 3: the release decision, champion against challenger on the same rows of today's data.

The champion is scored by its own code at its own commit, so that a transformer that has changed
since can neither flatter nor hurt it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coalmine.datasets.lookups import request_inputs
from coalmine.errors import DataRefused
from coalmine.manifest import Example, Outcome, ReleaseDecision, Tensor, Trigger
from coalmine.operations.champion import Release, champion, newest
from coalmine.operations.versions import FIRST, Bump, bump_from, next_version
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.releases import materialise
from coalmine.spec import ModelSpec


@dataclass(frozen=True)
class Decided:
    """The decision about the model that was just trained, and what a manifest says of that model.

    version: what it is, or would have been, released as.
    code: the commit whose code and specs built it.
    features, added: what the model takes, and what its lookups add; empty without lookups.
    """

    decision: ReleaseDecision
    version: str
    parent: str | None
    code: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[object, ...]
    example: Example
    trusted_types: tuple[str, ...]
    features: tuple[Tensor, ...] = ()
    added: tuple[Tensor, ...] = ()


def decide_release(workspace: Workspace, spec: ModelSpec, trigger: Trigger, tell: Tell) -> Decided:
    """
    Raises:
        DataRefused: the rows cannot judge the two models fairly.
        IntegrityError: the champion is not what its manifest says.
    """
    # scikit-learn is slow to import, and a retraining where nothing changed never comes here.
    from coalmine.evaluation import model_file, signature
    from coalmine.evaluation.decision import Scored, decide
    from coalmine.evaluation.prepared import prepared_folder, read_split, read_test, read_train
    from coalmine.evaluation.scoring import example, rows_to_judge, score

    folder = workspace.top / prepared_folder(spec.name)
    split, train, test = read_split(folder), read_train(folder), read_test(folder)
    file = workspace.top / "models" / spec.name / "model.skops"
    trusted = model_file.untrusted_types(file)  # built here, by the stage before
    model = model_file.load(file, trusted)
    predictions = score(model, test, spec.features, spec.task)
    inputs = signature.inputs(train, request_inputs(spec))
    features = signature.inputs(train, spec.features) if spec.lookups else ()
    outputs = signature.outputs(spec.task, predictions.classes)

    code = workspace.repository.head()
    reigning, last = champion(workspace.repository, spec.name), newest(workspace.repository, spec.name)
    if reigning is None or last is None:
        version = FIRST if last is None else next_version(last.manifest.version, Bump.MINOR)
        bump, champions = Bump.MINOR, None
    else:
        _require_unseen(reigning, split.test.partitions, spec.name, split.time is not None)
        bump = bump_from(reigning.manifest, inputs, outputs, workspace.repository, code)
        version = next_version(last.manifest.version, bump)
        champions = Scored(
            reigning.manifest.version, _score_champion(workspace, reigning, folder / "test.parquet")
        )
    rows = rows_to_judge(test, spec.target, split, spec.evaluation)
    decision = decide(Scored(version, predictions), champions, rows, spec.evaluation)
    if bump is Bump.MAJOR and trigger.kind != "person":
        decision = _needs_a_person(decision, version)
    for reason in decision.reasons:
        tell(reason)
    return Decided(
        decision=decision,
        version=version,
        parent=None if reigning is None else reigning.manifest.version,
        code=code,
        inputs=inputs,
        outputs=outputs,
        classes=predictions.classes,
        example=example(model, test, inputs, spec.task, features),
        trusted_types=tuple(trusted),
        features=features,
        added=signature.inputs(train, [name for lookup in spec.lookups for name in lookup.columns]),
    )


def _score_champion(workspace: Workspace, reigning: Release, rows: Path):  # type: ignore[no-untyped-def]
    from coalmine.evaluation.apart import score_apart

    manifest = reigning.manifest
    folder = materialise(
        workspace.repository,
        workspace.dvc,
        manifest.model,
        reigning.commit,
        workspace.releases_folder(manifest.model),
    )
    return score_apart(folder, manifest, rows)


def _require_unseen(reigning: Release, test: tuple[str, ...], model: str, has_time: bool) -> None:
    """A champion that has trained on the test rows would win by memory.

    Without a time, a row's side is fixed by its content, and nobody trains on the test's.
    """
    seen = sorted(set(reigning.manifest.dataset.train) & set(test))
    if has_time and seen:
        raise DataRefused(
            f"{model} {reigning.manifest.version}, the champion, was trained on {', '.join(seen)}, which is "
            f"the test now: the comparison would flatter it. Ingest a newer partition, or test on another "
            f"(`split.test_partitions` in models/{model}/model.yaml)"
        )


def _needs_a_person(decision: ReleaseDecision, version: str) -> ReleaseDecision:
    if decision.outcome is Outcome.KEEP:
        return decision
    reason = (
        f"Kept {decision.champion}: {version} changes the model's inputs or outputs, "
        "which needs a person to ask for it."
    )
    return decision.model_copy(update={"outcome": Outcome.KEEP, "reasons": (reason, *decision.reasons)})
