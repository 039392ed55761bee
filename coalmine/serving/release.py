"""A release from its folder, verified: nothing is served that the manifest does not vouch for.

    <release>/manifest.yaml
    <release>/files/<path as in the manifest>
    <release>/code/                             the code of the release's commit

Every byte is checked before it is used, no type is built that the manifest does not trust,
and the model must answer the manifest's example as it did when it was released.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coalmine.errors import IntegrityError, NotFound
from coalmine.evaluation.reference import Reference, parse_reference, reference_path
from coalmine.manifest import Manifest, parse_manifest
from coalmine.serving.predictor import Model, Predictor
from coalmine.serving.protocol import Protocol
from coalmine.serving.refusal import Refusal

if TYPE_CHECKING:
    from coalmine.serving.lookups import Lookups

MODEL_SUFFIX = ".skops"
TOLERANCE = 1e-9  # another processor may round the last digits differently


def load_release(folder: Path) -> Predictor[Any]:
    """
    Raises:
        NotFound: no release there.
        IntegrityError: files, types or answers that are not what the manifest says.
    """
    manifest = _read_manifest(folder)
    for file in manifest.all_files:
        _verify(folder / "files" / file.path, file.sha256)
    # First, so that the release's own code wins over that of the folder it was started in.
    sys.path.insert(0, str((folder / "code").resolve()))
    try:
        model, lookups = _model(folder, manifest), _lookups(folder, manifest)
        predictor = Predictor(manifest, model, lookups, _reference(folder, manifest))
        self_check(predictor)
    except IntegrityError as error:
        raise IntegrityError(f"{error}{_other_libraries(manifest)}") from error
    return predictor


def self_check(predictor: Predictor[Any]) -> None:
    """The manifest's example, asked the way that users ask.

    Raises:
        IntegrityError: the model does not answer as it did when it was released.
    """
    manifest = predictor.manifest
    named = f"{manifest.model} {manifest.version} does not answer its manifest's example as it did at release"
    tensors = [
        {
            "name": each.name,
            "shape": [1],
            "datatype": each.datatype,
            "data": [manifest.example.inputs.get(each.name)],
        }
        for each in manifest.inputs
    ]
    try:
        rows = Protocol(manifest).read({"inputs": tensors}).rows
        found = predictor.predict([predictor.take(predictor.join(rows))], [rows.count])
    except Refusal as refusal:
        raise IntegrityError(f"{named}: {refusal}") from refusal
    for output in manifest.outputs:
        wanted = manifest.example.outputs.get(output.name)
        got = found[output.name][0] if output.name in found else None
        if not _is_same(wanted, got):
            raise IntegrityError(f"{named}: `{output.name}` is {got}, and was {wanted}")


def _model(folder: Path, manifest: Manifest) -> Model[Any]:
    """What the manifest says answers; the other way's libraries are not even imported."""
    if manifest.predictor.kind == "compiled":
        from coalmine.serving.translated import TranslatedModel

        return TranslatedModel.load(folder / "files" / "models" / manifest.model / "compiled", manifest)
    from coalmine.serving.fitted import FittedModel

    return FittedModel.load(_fitted_path(folder, manifest), manifest)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path} does not exist: --release must name a folder that holds a release") from error
    return parse_manifest(text, str(path))


def _verify(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{path} is missing, though the manifest names it: fetch the release again"
        ) from error
    if found != sha256:
        raise IntegrityError(
            f"{path} is not the file that was released (sha256 {found[:12]}..., the manifest says "
            f"{sha256[:12]}...): fetch the release again"
        )


def _lookups(folder: Path, manifest: Manifest) -> Lookups | None:
    if not manifest.lookups:
        return None
    from coalmine.serving.lookups import Lookups

    return Lookups.load(folder, manifest)


def _reference(folder: Path, manifest: Manifest) -> Reference | None:
    path = reference_path(manifest.model)
    if path.as_posix() not in (file.path for file in manifest.files):
        return None
    return parse_reference((folder / "files" / path).read_bytes(), str(path))


def _fitted_path(folder: Path, manifest: Manifest) -> Path:
    paths = [file.path for file in manifest.all_files if file.path.endswith(MODEL_SUFFIX)]
    if len(paths) != 1:
        raise IntegrityError(
            f"the manifest of {manifest.model} {manifest.version} names {len(paths)} {MODEL_SUFFIX} files: "
            "a release has exactly one"
        )
    return folder / "files" / paths[0]


def _other_libraries(manifest: Manifest) -> str:
    """Which versions differ from those at release: the likeliest reason when a model fails to load."""
    here = {
        name: platform.python_version() if name == "python" else _version(name)
        for name in manifest.environment
    }
    differing = [
        f"{name} {was} (here {here[name]})" for name, was in manifest.environment.items() if here[name] != was
    ]
    return f". It was released with {', '.join(differing)}" if differing else ""


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _is_same(wanted: Any, got: Any) -> bool:
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(_is_same, wanted, got))
    if isinstance(wanted, float) and isinstance(got, (int, float)):
        return math.isclose(wanted, got, rel_tol=0, abs_tol=TOLERANCE)
    return bool(wanted == got)
