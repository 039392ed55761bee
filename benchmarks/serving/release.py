"""A case as a release of this project: the folder that `python -m coalmine.serving --release` takes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks.serving.cases import Case
from coalmine.evaluation import model_file, scoring, signature
from coalmine.evaluation.compiled.agreement import compile_model
from coalmine.evaluation.compiled.plan import write_compiled
from coalmine.evaluation.reference import dump_reference, reference_of
from coalmine.manifest import (
    DatasetVersion,
    Manifest,
    Outcome,
    Predictor,
    ReleaseDecision,
    ReleaseFile,
    Trigger,
    dump_manifest,
)
from coalmine.spec import Task

VERSION = "1.0.0"


def write_release(case: Case, folder: Path) -> Manifest:
    """`folder` is made. What is fitted is translated where it can be, as at every release."""
    features = list(case.train.columns)
    inputs = signature.inputs(case.train, features)
    classes = tuple(case.model.classes_.tolist())
    model = folder / "files" / "models" / case.name
    (model / "compiled").mkdir(parents=True)
    (folder / "code").mkdir()
    model_file.dump(case.model, model / "model.skops")
    compiled, graph = compile_model(case.model, case.rows, inputs, Task.BINARY)
    write_compiled(model / "compiled", compiled, graph)
    learnt = signature.model_frame(case.train, features)
    predictions = scoring.score(case.model, case.rows, features, Task.BINARY)
    reference = reference_of({name: learnt[name].to_numpy() for name in features}, predictions)
    (model / "reference.json").write_text(dump_reference(reference), encoding="utf-8")
    manifest = Manifest(
        model=case.name,
        version=VERSION,
        parent=None,
        task=Task.BINARY,
        files=tuple(_file(path, folder / "files") for path in sorted(model.rglob("*")) if path.is_file()),
        predictor=Predictor.model_validate(compiled.model_dump(exclude={"plan", "schema_version"})),
        inputs=inputs,
        outputs=signature.outputs(Task.BINARY, classes),
        classes=classes,
        example=scoring.example(case.model, case.train, inputs, Task.BINARY),
        trusted_types=model_file.untrusted_types(model / "model.skops"),
        dataset=DatasetVersion(name=case.name, md5="0" * 32, train=(), test=(), train_rows=1, test_rows=1),
        code="0" * 40,
        estimator={},
        decision=ReleaseDecision(outcome=Outcome.RELEASE, reasons=(), champion=None, metrics={}),
        environment={},
        created="2026-01-01T00:00:00Z",
        trigger=Trigger(kind="person", who="benchmark"),
    )
    (folder / "manifest.yaml").write_text(dump_manifest(manifest), encoding="utf-8")
    return manifest


def _file(path: Path, top: Path) -> ReleaseFile:
    content = path.read_bytes()
    return ReleaseFile(
        path=str(path.relative_to(top)),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),
        size_bytes=len(content),
    )
