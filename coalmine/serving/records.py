"""`POST /predict`, the human's way to ask: records of plain JSON in, an answer in plain words out.

One record or a list of them, each an object of the model's inputs by name. The tensors of the
Open Inference Protocol are `protocol`'s; what the records lack (lookups) is added after this.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from coalmine.manifest import Manifest, Tensor
from coalmine.serving.refusal import FailureKind, Refusal, shown

WANTED = {
    "BOOL": "true or false",
    "INT64": "a whole number",
    "FP64": "a number",
    "BYTES": "a text",
}
_EXACT_IN_FP64 = 2**53  # beyond it, a parser may have rounded what was a whole number
_NAME_CHARACTERS = 100  # of an unknown name that are compared: the time grows with their square


@dataclass(frozen=True)
class Records:
    """columns: by input, in the manifest's order, one value for each record: None is missing, the
    others are of the type that the input's datatype has in Python (FP64 `float`, INT64 `int`)."""

    columns: dict[str, list[Any]]
    count: int
    is_single: bool  # one object, not a list of one


def read_records(message: Any, inputs: Sequence[Tensor], max_rows: int) -> Records:
    """
    Raises:
        Refusal: what is wrong, in which record and field, and how to mend it.
    """
    is_single = isinstance(message, dict)
    records = [message] if is_single else message
    if not isinstance(records, list):
        raise _malformed(
            f"the body is {shown(message)}: send one record, {_sample(inputs)}, or a list of them"
        )
    if not records:
        raise _malformed("the list has no records: send at least one")
    if len(records) > max_rows:
        raise Refusal(
            FailureKind.TOO_LARGE, f"{len(records)} records: send at most {max_rows} in one request", 413
        )
    places = [""] if is_single else [f"record {number}: " for number in range(len(records))]
    known = {each.name: each for each in inputs}
    for place, record in zip(places, records, strict=True):
        if not isinstance(record, dict):
            raise _malformed(f"{place}{shown(record)} is not a record: send {_sample(inputs)}")
        if not record.keys() <= known.keys():
            raise _unknown(place, next(name for name in record if name not in known), known)
    columns = {
        each.name: [
            _value(place, each, record.get(each.name)) for place, record in zip(places, records, strict=True)
        ]
        for each in inputs
    }
    return Records(columns, len(records), is_single)


def answer(manifest: Manifest, request_id: str, outputs: Mapping[str, list[Any]], is_single: bool) -> bytes:
    """Each prediction by the names of the outputs; `probabilities` by class instead of by place."""
    columns = {each.name: outputs[each.name] for each in manifest.outputs}
    if "probabilities" in columns:
        classes = [class_name(each) for each in manifest.classes]
        columns["probabilities"] = [dict(zip(classes, row, strict=True)) for row in columns["probabilities"]]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    said = {"prediction": rows[0]} if is_single else {"predictions": rows}
    return orjson.dumps({"model": manifest.model, "version": manifest.version, "id": request_id, **said})


def class_name(label: Any) -> str:
    """A class as a key of JSON: a text as it is, everything else as JSON writes it."""
    return label if isinstance(label, str) else orjson.dumps(label).decode()


def _value(place: str, wanted: Tensor, value: Any) -> Any:
    # `match` would take true for a number: bool is a kind of int.
    kind = type(value)
    match wanted.datatype:
        case "FP64" if kind is float and math.isfinite(value):
            return value
        case "FP64" if kind is int:
            return _exact(place, wanted, value)
        case "INT64" if kind is int:
            return _int64(place, wanted, value)
        case "INT64" if kind is float and value.is_integer() and abs(value) <= _EXACT_IN_FP64:
            return int(value)
        case "BOOL" if kind is bool:
            return value
        case "BYTES" if kind is str:
            return value
    if value is not None:
        raise _schema(f"{place}field `{wanted.name}` is {shown(value)}: send {WANTED[wanted.datatype]}")
    if wanted.nullable:
        return None
    raise Refusal(
        FailureKind.MISSING_VALUE,
        f"{place}field `{wanted.name}` is missing, and this model was trained without missing values there: "
        f"send {WANTED[wanted.datatype]}",
    )


def _int64(place: str, wanted: Tensor, value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise _schema(
            f"{place}field `{wanted.name}` is {shown(value)}: INT64 goes from {-(2**63)} to {2**63 - 1}"
        )
    return value


def _exact(place: str, wanted: Tensor, value: int) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number != value:
        raise _schema(
            f"{place}field `{wanted.name}` is {shown(value)}, which FP64 cannot hold exactly: "
            "send a number that it holds"
        )
    return number


def _unknown(place: str, name: str, known: Mapping[str, Tensor]) -> Refusal:
    near = difflib.get_close_matches(name[:_NAME_CHARACTERS], known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(known)}"
    return _schema(f"{place}field {shown(name)} is not one of this model's: {hint}")


def _sample(inputs: Sequence[Tensor]) -> str:
    return f'{{"{inputs[0].name}": ...}}'


def _malformed(message: str) -> Refusal:
    return Refusal(FailureKind.MALFORMED, message)


def _schema(message: str) -> Refusal:
    return Refusal(FailureKind.SCHEMA, message)
