from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import CoalmineError, IntegrityError, NotFound
from coalmine.serving.protocol import Protocol
from coalmine.serving.release import load_release
from tests.serving.releases import MODEL_PATH, Built, rewrite, tensors


def test_a_release_is_loaded_and_answers(own_binary: Built) -> None:
    predictor = load_release(own_binary.folder)
    rows = Protocol(own_binary.manifest).read({"inputs": tensors(own_binary, [0])}).rows
    assert set(predictor.predict([predictor.take(rows)], [1])) == {"label", "probability"}


def _tamper(built: Built) -> None:
    path = built.folder / "files" / MODEL_PATH
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _lose_the_model(built: Built) -> None:
    (built.folder / "files" / MODEL_PATH).unlink()


def _lose_the_manifest(built: Built) -> None:
    (built.folder / "manifest.yaml").unlink()


def _break_the_manifest(built: Built) -> None:
    (built.folder / "manifest.yaml").write_text("model: [", encoding="utf-8")


def _trust_nothing(built: Built) -> None:
    rewrite(built.folder, built.manifest.model_copy(update={"trusted_types": ()}))


def _name_no_model(built: Built) -> None:
    rewrite(built.folder, built.manifest.model_copy(update={"files": ()}))


def _with_example(**changes: Any) -> Callable[[Built], None]:
    def spoil(built: Built) -> None:
        example = built.manifest.example.model_copy(update=changes)
        rewrite(built.folder, built.manifest.model_copy(update={"example": example}))

    return spoil


BAD: dict[str, tuple[Callable[[Built], None], type[CoalmineError], str]] = {
    "tampered file": (_tamper, IntegrityError, "is not the file that was released"),
    "missing file": (_lose_the_model, IntegrityError, "is missing, though the manifest names it"),
    "no manifest": (_lose_the_manifest, NotFound, "--release must name a folder that holds a release"),
    "broken manifest": (_break_the_manifest, IntegrityError, "is not a release manifest"),
    "untrusted type": (_trust_nothing, IntegrityError, "TreePredictor"),
    "no model file": (_name_no_model, IntegrityError, "a release has exactly one"),
    "wrong probability": (
        _with_example(outputs={"label": False, "probability": 0.123}),
        IntegrityError,
        "does not answer its manifest's example as it did at release",
    ),
    "wrong label": (
        _with_example(outputs={"label": "x", "probability": 0.123}),
        IntegrityError,
        "`label` is",
    ),
    "output not recorded": (_with_example(outputs={}), IntegrityError, "and was None"),
    "input not recorded": (_with_example(inputs={}), IntegrityError, "missing value"),
}


@pytest.mark.parametrize(("spoil", "error", "words"), BAD.values(), ids=BAD)
def test_a_release_that_is_not_what_it_says_is_refused(
    spoil: Callable[[Built], None], error: type[CoalmineError], words: str, own_binary: Built
) -> None:
    spoil(own_binary)
    with pytest.raises(error) as raised:
        load_release(own_binary.folder)
    assert words in str(raised.value)


def test_digits_beyond_the_tolerance_are_the_processors_own(own_binary: Built) -> None:
    outputs = own_binary.manifest.example.outputs
    _with_example(outputs={**outputs, "probability": outputs["probability"] + 5e-10})(own_binary)
    load_release(own_binary.folder)
    _with_example(outputs={**outputs, "probability": outputs["probability"] + 5e-9})(own_binary)
    with pytest.raises(IntegrityError):
        load_release(own_binary.folder)


def test_a_refusal_names_the_libraries_that_differ(own_binary: Built) -> None:
    _trust_nothing(own_binary)
    with pytest.raises(IntegrityError, match=r"released with .*scikit-learn 1\.0 \(here "):
        load_release(own_binary.folder)


def test_a_compiled_release_is_served_without_the_libraries_that_it_was_trained_with(compiled: Built) -> None:
    """The whole server, as it stands when it is ready: importing them takes longer than all the rest."""
    code = f"""
import sys
from pathlib import Path
import coalmine.serving.host
from coalmine.serving.release import load_release
load_release(Path({str(compiled.folder)!r}))
print(sorted({{"pandas", "sklearn", "scipy", "pyarrow", "joblib", "skops"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_compiled_model_that_was_tampered_with_is_refused(compiled: Built, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(compiled.folder, folder)
    trees = folder / "files/models/delays/compiled/trees.onnx"
    trees.write_bytes(trees.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match="is not the file that was released"):
        load_release(folder)
