"""The Open Inference Protocol v2: requests as values, answers as bytes, metadata.

JSON only; the binary data extension is not offered. Rows are read by `tensors`, labels by
`feedback`, and HTTP is `app`'s.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pandas as pd

from coalmine.evaluation.predictions import Predictions
from coalmine.manifest import Manifest, Tensor
from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.tensors import InputSchema

# An id travels in a header too, and is kept until its label comes.
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class InferRequest:
    frame: pd.DataFrame
    outputs: tuple[Tensor, ...]  # the ones asked for, in their order


def parse_json(body: bytes) -> Any:
    """
    Raises:
        Refusal: not JSON in UTF-8.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(
            FailureKind.MALFORMED,
            f"the body is not JSON in UTF-8: {error}. A missing value is null; JSON has no NaN",
        ) from error


def parse_infer(message: Any, schema: InputSchema, outputs: Sequence[Tensor]) -> InferRequest:
    """
    Raises:
        Refusal: what is wrong, where, and how to mend it.
    """
    if not isinstance(message, dict):
        raise Refusal(FailureKind.MALFORMED, 'the body must be an object: {"inputs": [...]}')
    return InferRequest(schema.frame(message.get("inputs")), _asked(message.get("outputs"), outputs))


def body_id(message: Any) -> str | None:
    """The id that a body brings; an empty one is none.

    Raises:
        Refusal: an id that could not stand in a header.
    """
    identity = message.get("id") if isinstance(message, dict) else None
    if identity is None or identity == "":
        return None
    if not is_request_id(identity):
        raise Refusal(FailureKind.MALFORMED, "`id` must be a text of 1 to 128 visible ASCII characters")
    return str(identity)


def is_request_id(value: object) -> bool:
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def infer_answer(
    manifest: Manifest, request_id: str, outputs: Sequence[Tensor], predictions: Predictions
) -> bytes:
    return orjson.dumps(
        {
            "model_name": manifest.model,
            "model_version": manifest.version,
            "id": request_id,
            "outputs": [_tensor(each, predictions.outputs[each.name]) for each in outputs],
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def error_answer(message: str) -> bytes:
    return orjson.dumps({"error": message})


def server_metadata() -> dict[str, Any]:
    return {"name": "coalmine", "version": importlib.metadata.version("coalmine"), "extensions": []}


def model_metadata(manifest: Manifest) -> dict[str, Any]:
    """`probabilities` come by class, in the order of `classes`; `nullable` inputs take null."""
    inputs = [
        {
            "name": each.name,
            "datatype": each.datatype,
            "shape": [-1],
            "parameters": {"nullable": each.nullable},
        }
        for each in manifest.inputs
    ]
    outputs = [
        {"name": each.name, "datatype": each.datatype, "shape": [-1, *_inner_shape(each, manifest)]}
        for each in manifest.outputs
    ]
    return {
        "name": manifest.model,
        "versions": [manifest.version],
        "platform": "coalmine-sklearn",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"task": manifest.task.value, "classes": list(manifest.classes)},
    }


def _inner_shape(output: Tensor, manifest: Manifest) -> list[int]:
    return [len(manifest.classes)] if output.name == "probabilities" else []


def _asked(asked: Any, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not asked and asked in (None, []):
        return tuple(outputs)
    known = {each.name: each for each in outputs}
    if not isinstance(asked, list) or not all(isinstance(each, dict) for each in asked):
        raise Refusal(FailureKind.MALFORMED, '`outputs` must be a list of {"name": ...}')
    names = [each.get("name") for each in asked]
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise Refusal(
                FailureKind.SCHEMA,
                f"output {shown(name)} is not one of this model's: it has {', '.join(known)}",
            )
    return tuple(known[name] for name in dict.fromkeys(names))


def _tensor(output: Tensor, values: Any) -> dict[str, Any]:
    data = values.ravel()
    is_number = output.datatype in ("FP64", "INT64") and data.dtype.kind in "fi"
    return {
        "name": output.name,
        "datatype": output.datatype,
        "shape": list(values.shape),
        # orjson writes contiguous numbers as they are; texts and booleans come as objects.
        "data": data if is_number else data.tolist(),
    }
