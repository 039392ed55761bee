"""Clients that others wrote talk to a server unchanged: kserve's and Triton's, over HTTP.

Their libraries want other versions than this repository has, so that each runs in an environment of
its own (`environments`), once, as a script that puts all its questions.
"""

from __future__ import annotations

from typing import Any

import pytest

from coalmine.evaluation import signature
from coalmine.evaluation.predict import predict
from tests.serving.clients.conftest import COMPLETE, GAPS, NO_NUMBER, Script
from tests.serving.releases import Built

pytestmark = pytest.mark.timeout(900)  # making an environment may have to wait for the package index

UNKNOWN_MODEL = "model 'other' is not here: this server has delays"
UNKNOWN_VERSION = "version '7' of delays is not here: this server has 1.2.0"
WRONG_SHAPE = "input `distance` has the shape [9, 9]: it must be [rows] or [rows, 1]"
NO_CLASS_COUNT = (
    "output `label`: this server has no classification extension. Ask for `label`, and for `probability` "
    "or `probabilities`"
)


def foretold(built: Built, rows: list[int]) -> dict[str, Any]:
    """What scikit-learn itself says, in the shapes that the outputs have."""
    frame = signature.model_frame(built.rows.iloc[rows], list(built.rows.columns))
    outputs = predict(built.model, frame, built.manifest.task).outputs
    return {name: values.tolist() for name, values in outputs.items()}


def rounded(said: Any) -> Any:
    """A translated model may differ from scikit-learn's own in the last digit."""
    match said:
        case dict():
            return {name: rounded(each) for name, each in said.items()}
        case list():
            return [rounded(each) for each in said]
        case float():
            return round(said, 12)
    return said


def test_kserve_client(script: Script, given: dict[str, Any], compiled: Built, measured: Built) -> None:
    said = script("kserve", "kserve_script.py", given)
    complete, gaps, matrix = (
        foretold(compiled, COMPLETE),
        foretold(compiled, GAPS),
        foretold(measured, COMPLETE),
    )
    refused = said.pop("refused")
    assert rounded(said) == rounded(
        {
            "live": True,
            "ready": True,
            "model ready": True,
            "other model ready": False,
            "columns, JSON": complete,
            "columns, binary": complete,
            "columns, binary answer": complete,
            "gaps, JSON": gaps,
            "gaps, binary": gaps,
            "matrix, JSON": matrix,
            "matrix, binary": matrix,
            "matrix, binary answer": matrix,
            "chosen": ["mine", {"label": complete["label"]}],
        }
    )
    assert refused["unknown model"].startswith(f"{UNKNOWN_MODEL}, '404 Not Found' for url")
    assert refused["wrong shape"].startswith(f"{WRONG_SHAPE}, '400 Bad Request' for url")


def test_triton_clients(script: Script, given: dict[str, Any], compiled: Built, measured: Built) -> None:
    said = script("tritonclient", "tritonclient_script.py", given)
    complete, matrix = foretold(compiled, COMPLETE), foretold(measured, COMPLETE)
    refused = {
        "unknown model": ["404", UNKNOWN_MODEL],
        "unknown version": ["404", UNKNOWN_VERSION],
        "wrong shape": ["400", WRONG_SHAPE],
        "class count": ["400", NO_CLASS_COUNT],
    }
    assert rounded(said["now"]) == rounded(
        {
            "live": True,
            "ready": True,
            "model ready": [True, True, False, False],
            "extensions": ["binary_tensor_data"],
            "metadata": [["1.2.0"], ["distance", "pressure", "carrier", "weekend"]],
            "columns, JSON": complete,
            "columns, JSON, binary answer": complete,
            "columns, binary": complete,
            "columns, binary, JSON answer": {"label": complete["label"]},
            "no number, binary": foretold(compiled, NO_NUMBER),
            "columns, gzip": complete,
            "columns, deflate": complete,
            "matrix, JSON": {name: matrix[name] for name in ("label", "probabilities")},
            "matrix, binary": {name: matrix[name] for name in ("label", "probabilities")},
            "background": [complete] * 8,
            "all options": ["mine", complete],
            "refused": refused,
        }
    )
    assert rounded(said["later"]) == rounded(
        {
            "ready": [True, True],
            "columns, JSON": complete,
            "columns, binary": complete,
            "columns, gzip": complete,
            "at once": [complete] * 8,
            "refused": refused,
        }
    )
