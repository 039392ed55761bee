"""Releases on disk, small and real: built, asked for as the protocol asks, answered offline."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from coalmine.evaluation import model_file, scoring, signature
from coalmine.evaluation.compiled.agreement import compile_model
from coalmine.evaluation.compiled.plan import compiled_folder, write_compiled
from coalmine.evaluation.predict import predict
from coalmine.evaluation.reference import Reference, dump_reference, reference_of, reference_path
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

MODEL_PATH = "models/delays/model.skops"


@dataclass(frozen=True)
class Built:
    """A release's folder and what went into it."""

    folder: Path
    manifest: Manifest
    model: Any
    rows: pd.DataFrame
    reference: Reference | None = None


def flights(rows: int = 300) -> pd.DataFrame:
    """Columns of every datatype; `pressure` and `carrier` lack some values."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "distance": random.integers(100, 3000, rows),
            "pressure": random.normal(1013, 8, rows),
            "carrier": pd.Series(random.choice(["UA", "AA", "DL"], rows), dtype="str"),
            "weekend": random.random(rows) < 0.3,
        }
    )
    frame.loc[::7, "pressure"] = np.nan
    frame.loc[::11, "carrier"] = None
    return frame


def trees() -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    columns = ColumnTransformer([("carrier", encoder, ["carrier"])], remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10, random_state=0))


def build(
    folder: Path, model: Any, rows: pd.DataFrame, target: Any, task: Task, name: str = "delays"
) -> Built:
    """Fit `model` and release it into `folder`."""
    features = list(rows.columns)
    model.fit(signature.model_frame(rows, features), target)
    file = folder / "files" / MODEL_PATH
    file.parent.mkdir(parents=True)
    (folder / "code").mkdir()
    model_file.dump(model, file)
    inputs = signature.inputs(rows, features)
    classes = () if task is Task.REGRESSION else tuple(model.classes_.tolist())
    manifest = Manifest(
        model=name,
        version="1.2.0",
        parent=None,
        task=task,
        files=(release_file(folder / "files", file),),
        inputs=inputs,
        outputs=signature.outputs(task, classes),
        classes=classes,
        example=scoring.example(model, rows, inputs, task),
        trusted_types=model_file.untrusted_types(file),
        dataset=DatasetVersion(name="flights", md5="0" * 32, train=(), test=(), train_rows=1, test_rows=1),
        code="0" * 40,
        estimator={},
        decision=ReleaseDecision(outcome=Outcome.RELEASE, reasons=(), champion=None, metrics={}),
        environment={"python": "3.11.0", "scikit-learn": "1.0"},
        created="2026-01-01T00:00:00Z",
        trigger=Trigger(kind="person", who="test"),
    )
    rewrite(folder, manifest)
    return Built(folder, manifest, model, rows)


def compile_release(built: Built) -> Built:
    """The same release, answered by the translation of its model."""
    manifest = built.manifest
    compiled, trees = compile_model(built.model, built.rows, manifest.columns, manifest.task)
    assert compiled.kind == "compiled", compiled.reason
    folder = built.folder / "files" / compiled_folder(manifest.model)
    folder.mkdir(parents=True)
    write_compiled(folder, compiled, trees)
    files = [release_file(built.folder / "files", path) for path in sorted(folder.iterdir())]
    predictor = Predictor(
        kind="compiled",
        reason=compiled.reason,
        tolerance=compiled.tolerance,
        max_difference=compiled.max_difference,
        rows=compiled.rows,
    )
    manifest = manifest.model_copy(update={"files": (*manifest.files, *files), "predictor": predictor})
    rewrite(built.folder, manifest)
    return replace(built, manifest=manifest)


def with_reference(built: Built) -> Built:
    """The same release, with how its rows are distributed among its files."""
    manifest = built.manifest
    columns = signature.model_frame(built.rows, list(built.rows.columns))
    predictions = predict(built.model, columns, manifest.task)
    reference = reference_of({name: columns[name].to_numpy() for name in columns}, predictions)
    path = built.folder / "files" / reference_path(manifest.model)
    path.write_text(dump_reference(reference))
    files = (*manifest.files, release_file(built.folder / "files", path))
    manifest = manifest.model_copy(update={"files": files})
    rewrite(built.folder, manifest)
    return replace(built, manifest=manifest, reference=reference)


def release_file(top: Path, path: Path) -> ReleaseFile:
    content = path.read_bytes()
    return ReleaseFile(
        path=path.relative_to(top).as_posix(),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),
        size_bytes=len(content),
    )


def rewrite(folder: Path, manifest: Manifest) -> None:
    (folder / "manifest.yaml").write_text(dump_manifest(manifest), encoding="utf-8")


def tensors(built: Built, rows: list[int]) -> list[dict[str, Any]]:
    """Rows of the release's own data as the protocol's tensors, in the manifest's datatypes."""
    frame = signature.model_frame(built.rows.iloc[rows], list(built.rows.columns))
    return [
        {
            "name": each.name,
            "shape": [len(rows)],
            "datatype": each.datatype,
            "data": [None if pd.isna(value) else value for value in frame[each.name].tolist()],
        }
        for each in built.manifest.inputs
    ]


def expected(built: Built, rows: list[int]) -> dict[str, Any]:
    frame = signature.model_frame(built.rows.iloc[rows], list(built.rows.columns))
    outputs = predict(built.model, frame, built.manifest.task).outputs
    return {name: values.ravel().tolist() for name, values in outputs.items()}
