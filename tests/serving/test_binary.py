"""Binary tensor data: the same rows and answers as in JSON, and refusals for bytes that do not fit."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalmine.serving import binary
from coalmine.serving.refusal import Refusal
from tests.serving.in_process import Client, Response
from tests.serving.releases import Built, expected, tensors

DTYPES = {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}


def as_bytes(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values, dtype=DTYPES[datatype]).tobytes()


def sent(client: Client, message: dict[str, Any], data: bytes = b"", **headers: str) -> Response:
    text = orjson.dumps(message)
    return client.infer(
        content=text + data,
        headers={
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(text)),
            **headers,
        },
    )


def in_binary(given: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bytes]:
    """JSON tensors as binary ones; a missing number is NaN."""
    data, there = b"", []
    for each in given:
        chunk = as_bytes(each["datatype"], each["data"])
        data += chunk
        rest = {key: value for key, value in each.items() if key != "data"}
        there.append({**rest, "parameters": {"binary_data_size": len(chunk)}})
    return there, data


@pytest.mark.parametrize("rows", [[1], [3, 5, 2], [0]], ids=["one row", "several", "a missing number"])
def test_binary_inputs_are_answered_as_those_in_json(
    rows: list[int], strict: Built, regression: Built
) -> None:
    for built in (strict, regression):
        inputs, data = in_binary(tensors(built, rows))
        answer = sent(Client(built), {"inputs": inputs}, data)
        assert answer.status_code == 200, answer.text
        assert {each["name"]: each["data"] for each in answer.json()["outputs"]} == expected(built, rows)


def test_json_and_binary_tensors_mix(binary: Built) -> None:
    given = tensors(binary, [1])
    inputs, data = in_binary(given[:1])
    assert sent(Client(binary), {"inputs": inputs + given[1:]}, data).status_code == 200


def test_nan_in_a_binary_tensor_is_a_missing_value(binary: Built) -> None:
    given = tensors(binary, [0])  # its pressure is missing
    missing = [{**each, "data": [np.nan]} if each["name"] == "pressure" else each for each in given]
    numbers = [each for each in missing if each["datatype"] != "BYTES"]
    texts = [each for each in given if each["datatype"] == "BYTES"]
    inputs, data = in_binary(numbers)
    answer = sent(Client(binary), {"inputs": inputs + texts}, data)
    plain = Client(binary).infer(json={"inputs": given})
    assert answer.json()["outputs"] == plain.json()["outputs"]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"parameters": {"binary_data_output": True}}, ["label", "probability", "probabilities"]),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": True}}]}, ["label"]),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "probability"}, {"name": "label", "parameters": {"binary_data": False}}],
            },
            ["probability"],
        ),
    ],
    ids=["all", "one that is named", "all but one"],
)
def test_outputs_are_answered_in_binary_where_asked(
    asked: dict[str, Any], names: list[str], multiclass: Built
) -> None:
    answer = sent(Client(multiclass), {"inputs": tensors(multiclass, [0, 1]), **asked})
    length = int(answer.headers["inference-header-content-length"])
    message, data = orjson.loads(answer.content[:length]), answer.content[length:]
    wanted = expected(multiclass, [0, 1])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert [each["name"] for each in message["outputs"] if "data" not in each] == names
    for each in message["outputs"]:
        if "data" in each:
            assert each["data"] == wanted[each["name"]]
            continue
        size = each["parameters"]["binary_data_size"]
        assert data[:size] == as_bytes(each["datatype"], wanted[each["name"]])
        data = data[size:]
    assert data == b""


FP64_ONE = struct.pack("<d", 1.0)
BAD: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "too few bytes": ({"parameters": {"binary_data_size": 8}}, b"1234", "wants 8 bytes of binary data"),
    "bytes left over": ({"parameters": {"binary_data_size": 8}}, FP64_ONE + b"1", "1 bytes of binary data"),
    "no whole value": ({"parameters": {"binary_data_size": 7}}, b"1234567", "7 bytes, but its shape"),
    "another number of rows": (
        {"parameters": {"binary_data_size": 16}},
        FP64_ONE * 2,
        "16 bytes, but its shape says 1 FP64 of 8 bytes each",
    ),
    "more texts than rows": (
        {"datatype": "BYTES", "parameters": {"binary_data_size": 8}},
        bytes(8),
        "more BYTES than the 1 that its shape says",
    ),
    "fewer texts than rows": (
        {"shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": 8}},
        bytes(8),
        "2 values in `data`, but its shape says 3 rows",
    ),
    "a shape that is none": (
        {"shape": [1, 1, 1], "parameters": {"binary_data_size": 8}},
        FP64_ONE,
        "it must be [rows] or [rows, 1]",
    ),
    "a negative size": ({"parameters": {"binary_data_size": -1}}, b"", "must be a number of bytes"),
    "a size that is none": ({"parameters": {"binary_data_size": True}}, b"", "must be a number of bytes"),
    "data twice": (
        {"data": [1.0], "parameters": {"binary_data_size": 8}},
        FP64_ONE,
        "has `data` and binary data as well",
    ),
    "unknown datatype": ({"datatype": "BF16", "parameters": {"binary_data_size": 2}}, b"12", "'BF16'"),
    "infinity": ({"parameters": {"binary_data_size": 8}}, struct.pack("<d", np.inf), "too large for FP64"),
    "no data at all": ({}, b"", "has no `data` list"),
    "a BOOL that is none": (
        {"datatype": "BOOL", "parameters": {"binary_data_size": 1}},
        b"\x02",
        "neither 0 nor 1",
    ),
    "a text that ends early": (
        {"datatype": "BYTES", "parameters": {"binary_data_size": 5}},
        b"\x02\x00\x00\x00a",
        "end within a value",
    ),
    "a text that is not UTF-8": (
        {"datatype": "BYTES", "parameters": {"binary_data_size": 5}},
        b"\x01\x00\x00\x00\xff",
        "a text in row 0 that is not UTF-8",
    ),
}


@pytest.mark.parametrize(("changes", "data", "words"), BAD.values(), ids=BAD)
def test_bytes_that_do_not_fit_are_refused(
    changes: dict[str, Any], data: bytes, words: str, regression: Built
) -> None:
    tensor = {"name": "distance", "shape": [1], "datatype": "FP64", **changes}
    answer = sent(Client(regression), {"inputs": [tensor]}, data)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "length", ["-1", "x", "1e3", "", "999999", "+4", pytest.param("9" * 5000, id="5000 digits")]
)
def test_a_length_of_the_json_that_is_none_is_refused(length: str, regression: Built) -> None:
    message = {"inputs": tensors(regression, [0])}
    answer = sent(Client(regression), message, **{"inference-header-content-length": length})
    assert answer.status_code == 400
    assert "inference-header-content-length" in answer.json()["error"]


@pytest.mark.parametrize(
    "asked",
    [
        {"parameters": {"binary_data_output": "yes"}},
        {"parameters": 3},
        {"outputs": [{"name": "prediction", "parameters": {"binary_data": 1}}]},
        {"outputs": [{"name": "prediction", "parameters": []}]},
        {"outputs": [{"name": "prediction", "parameters": {"classification": 2}}]},
    ],
    ids=["flag is a text", "parameters is a number", "flag is a number", "a list", "classification"],
)
def test_parameters_of_another_kind_are_refused(asked: dict[str, Any], regression: Built) -> None:
    answer = Client(regression).infer(json={"inputs": tensors(regression, [0]), **asked})
    assert answer.status_code == 400


def test_parameters_that_nobody_knows_are_passed_over(regression: Built) -> None:
    message = {"inputs": tensors(regression, [0]), "parameters": {"priority": 3, "sequence_id": 0}}
    assert Client(regression).infer(json=message).status_code == 200


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.sampled_from(["BYTES", "FP32", "INT8", "BOOL"]), st.integers(0, 40))
def test_any_bytes_are_values_or_a_refusal(data: bytes, datatype: str, size: int) -> None:
    tensor = {"name": "x", "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": size}}
    try:
        (filled,) = binary.with_data([tensor], memoryview(data), inputs=1)
    except Refusal:
        return
    assert isinstance(filled["data"], list)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=5), max_size=5))
def test_packed_texts_are_read_back(texts: list[str]) -> None:
    packed = binary.packed("BYTES", texts)
    about = {"name": "x", "datatype": "BYTES", "shape": [len(texts)]}
    tensor = {**about, "parameters": {"binary_data_size": len(packed)}}
    assert binary.with_data([tensor], memoryview(packed), inputs=1)[0]["data"] == texts
