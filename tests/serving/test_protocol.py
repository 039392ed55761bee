from __future__ import annotations

import copy
import gzip
import zlib
from typing import Any

import orjson
import pytest

from tests.serving.in_process import Client
from tests.serving.releases import Built, expected, tensors


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each["data"] for each in answer["outputs"]}


@pytest.mark.parametrize(
    "kind", ["binary", "strict", "multiclass", "regression", "compiled", "compiled_strict"]
)
@pytest.mark.parametrize("rows", [[0], [1], [3, 5, 2]], ids=["nulls", "one row", "several rows"])
def test_an_answer_is_what_the_model_says_offline(
    kind: str, rows: list[int], request: pytest.FixtureRequest
) -> None:
    built: Built = request.getfixturevalue(kind)
    answer = Client(built).infer(json={"inputs": tensors(built, rows)})
    assert answer.status_code == 200
    assert outputs(answer.json()) == expected(built, rows)


def test_an_answer_names_model_version_shapes_and_datatypes(multiclass: Built) -> None:
    answer = Client(multiclass).infer(json={"id": "r-1", "inputs": tensors(multiclass, [0, 1])}).json()
    assert {key: answer[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "delays",
        "model_version": "1.2.0",
        "id": "r-1",
    }
    assert [(each["name"], each["datatype"], each["shape"]) for each in answer["outputs"]] == [
        ("label", "BYTES", [2]),
        ("probability", "FP64", [2]),
        ("probabilities", "FP64", [2, 3]),
    ]


def test_the_order_of_the_tensors_does_not_matter(binary: Built) -> None:
    given = tensors(binary, [4])
    client = Client(binary)
    there, back = client.infer(json={"inputs": given}), client.infer(json={"inputs": given[::-1]})
    assert outputs(there.json()) == outputs(back.json())


def test_outputs_are_selected_by_name(binary: Built) -> None:
    answer = Client(binary).infer(json={"inputs": tensors(binary, [0]), "outputs": [{"name": "probability"}]})
    assert list(outputs(answer.json())) == ["probability"]


SAME_VALUE: dict[str, tuple[str, dict[str, Any]]] = {
    "whole numbers for FP64": ("pressure", {"datatype": "INT32", "data": [1013]}),
    "unsigned for FP64": ("pressure", {"datatype": "UINT16", "data": [1013]}),
    "FP32 for FP64": ("pressure", {"datatype": "FP32", "data": [1013.0]}),
    "a number without a point": ("pressure", {"datatype": "FP64", "data": [1013]}),
    "whole FP64 for INT64": ("distance", {"datatype": "FP64", "data": [800.0]}),
    "INT8 for INT64": ("distance", {"datatype": "INT16", "data": [800]}),
    "a column of one": ("pressure", {"shape": [1, 1], "data": [1013.0]}),
    "a nested column": ("pressure", {"shape": [1, 1], "data": [[1013.0]]}),
    "parameters": ("pressure", {"data": [1013.0], "parameters": {"content_type": "np"}}),
}


@pytest.mark.parametrize(("name", "changes"), SAME_VALUE.values(), ids=SAME_VALUE)
def test_other_spellings_of_a_value_give_the_same_answer(
    name: str, changes: dict[str, Any], binary: Built
) -> None:
    plain = changed(tensors(binary, [1]), name, {"data": [1013.0 if name == "pressure" else 800]})
    client = Client(binary)
    answer = client.infer(json={"inputs": changed(plain, name, changes)})
    assert answer.status_code == 200, answer.text
    assert outputs(answer.json()) == outputs(client.infer(json={"inputs": plain}).json())


def changed(inputs: list[dict[str, Any]], name: str, changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**each, **changes} if each["name"] == name else each for each in copy.deepcopy(inputs)]


# What is changed in a good request; how the answer names it.
BAD_TENSOR: dict[str, tuple[str, dict[str, Any], str]] = {
    "text for a number": (
        "pressure",
        {"data": ["high"]},
        "input `pressure` has 'high' in row 0, which is not a number",
    ),
    "true for a number": ("pressure", {"data": [True]}, "has true in row 0, which is not a number"),
    "number for a text": ("carrier", {"data": [3]}, "input `carrier` has 3 in row 0, which is not a text"),
    "number for a boolean": ("weekend", {"data": [1]}, "which is not true or false"),
    "fraction as INT64": ("distance", {"data": [1.5]}, "has 1.5 in row 0, which is not a whole number"),
    "fraction as FP64 for INT64": (
        "distance",
        {"datatype": "FP64", "data": [1.5]},
        "1.5 in row 0, which is not whole",
    ),
    "INT8 too large": ("distance", {"datatype": "INT8", "data": [128]}, "INT8 here goes from -128 to 127"),
    "UINT8 too small": ("pressure", {"datatype": "UINT8", "data": [-1]}, "does not fit UINT8"),
    "UINT64 beyond INT64": (
        "distance",
        {"datatype": "UINT64", "data": [2**63]},
        "UINT64 here goes from 0 to",
    ),
    "INT64 beyond FP64": ("pressure", {"datatype": "INT64", "data": [2**53 + 2]}, "cannot hold exactly"),
    "FP64 beyond INT64": (
        "distance",
        {"datatype": "FP64", "data": [1e300]},
        "cannot hold exactly: send INT64",
    ),
    "FP32 overflow": ("pressure", {"datatype": "FP32", "data": [1e300]}, "is too large for FP32"),
    "text declared for a number": ("pressure", {"datatype": "BYTES", "data": ["1013"]}, "takes FP64 there"),
    "unknown datatype": ("pressure", {"datatype": "FLOAT"}, "datatype 'FLOAT': send FP64"),
    "no datatype": ("pressure", {"datatype": None}, "datatype null: send FP64"),
    "no shape": ("pressure", {"shape": None}, "the shape null: it must be [rows] or [rows, 1]"),
    "wide shape": ("pressure", {"shape": [1, 2], "data": [[1, 2]]}, "the shape [1, 2]"),
    "boolean shape": ("pressure", {"shape": [True]}, "the shape"),
    "no rows": ("distance", {"shape": [0], "data": []}, "input `distance` has no rows"),
    "negative rows": ("distance", {"shape": [-1]}, "input `distance` has no rows"),
    "fewer values than rows": (
        "distance",
        {"shape": [2]},
        "has 1 values in `data`, but its shape says 2 rows",
    ),
    "other number of rows": (
        "pressure",
        {"shape": [2], "data": [1.0, 2.0]},
        "has 2 rows, but `distance` has 1",
    ),
    "no data": ("pressure", {"data": None}, "input `pressure` has no `data` list"),
    "nested data in a flat shape": (
        "pressure",
        {"data": [[1.0]]},
        "has [1.0] in row 0, which is not a number",
    ),
    "unknown name": (
        "pressure",
        {"name": "presure"},
        "input 'presure' is not one of this model's: did you mean `pressure`?",
    ),
    "name twice": ("pressure", {"name": "distance"}, "input `distance` is given twice"),
    "no name": ("pressure", {"name": None}, "`inputs[1]` has no `name`"),
    "null in INT64": ("distance", {"data": [None]}, "input `distance` has a missing value in row 0"),
    "null in BOOL": ("weekend", {"data": [None]}, "input `weekend` has a missing value in row 0"),
}


@pytest.mark.parametrize(("name", "changes", "words"), BAD_TENSOR.values(), ids=BAD_TENSOR)
def test_a_bad_tensor_is_refused_by_name(
    name: str, changes: dict[str, Any], words: str, binary: Built
) -> None:
    answer = Client(binary).infer(json={"inputs": changed(tensors(binary, [1]), name, changes)})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_an_absent_input_is_named(binary: Built) -> None:
    answer = Client(binary).infer(json={"inputs": tensors(binary, [0])[1:]})
    assert answer.status_code == 400
    assert "input `distance` is missing: this model takes distance, pressure" in answer.json()["error"]


def test_a_missing_value_is_refused_where_the_model_never_saw_one(strict: Built) -> None:
    given = changed(tensors(strict, [0, 1]), "pressure", {"data": [1013.0, None]})
    answer = Client(strict).infer(json={"inputs": given})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(
        "input `pressure` has a missing value in row 1; this model was trained without missing values there:"
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [("strict", "unknown categories ['ZZ']"), ("compiled_strict", "input `carrier` has 'ZZ'")],
)
def test_an_unknown_category_is_the_senders_to_mend(
    kind: str, words: str, request: pytest.FixtureRequest
) -> None:
    built: Built = request.getfixturevalue(kind)
    answer = Client(built).infer(json={"inputs": changed(tensors(built, [0]), "carrier", {"data": ["ZZ"]})})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


DEEP = b"[" * 1000 + b"]" * 1000
BAD_BODY: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "not JSON"),
    "not JSON": (b"{", 400, "not JSON"),
    "NaN": (b'{"inputs": [NaN]}', 400, "JSON has no NaN"),
    "infinity": (b'{"inputs": [1e999]}', 400, "not JSON"),
    "invalid UTF-8": (b'{"id": "\xff"}', 400, "not JSON in UTF-8"),
    "lone surrogate": (rb'{"id": "\ud800"}', 400, "not JSON"),
    "too deep": (b"[" * 100_000, 400, "not JSON"),
    "a list": (b"[]", 400, "the body must be an object"),
    "no inputs": (b"{}", 400, "`inputs` must be a list"),
    "empty inputs": (b'{"inputs": []}', 400, "input `distance` is missing"),
    "inputs of numbers": (b'{"inputs": [1]}', 400, "`inputs` must be a list of tensors"),
    "id is a number": (b'{"id": 7, "inputs": []}', 400, "`id` must be a text"),
    "id breaks a header": (rb'{"id": "a\r\nb", "inputs": []}', 400, "`id` must be a text"),
    "id too long": (b'{"id": "' + b"x" * 129 + b'"}', 400, "`id` must be a text"),
    "deep data": (b'{"inputs": [{"name": "distance", "shape": ' + DEEP + b"}]}", 400, "is missing"),
    "too large": (b" " * (8 * 2**20 + 1), 413, "larger than 8388608 bytes"),
}


@pytest.mark.parametrize(("body", "status", "words"), BAD_BODY.values(), ids=BAD_BODY)
def test_a_bad_body_is_refused_with_a_remedy(body: bytes, status: int, words: str, binary: Built) -> None:
    answer = Client(binary).infer(content=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_body_of_untold_length_is_bound_as_well(binary: Built) -> None:
    answer = Client(binary).infer(content=b" " * (8 * 2**20 + 1), chunked=True)
    assert answer.status_code == 413
    whole = orjson.dumps({"inputs": tensors(binary, [0])})
    assert Client(binary).infer(content=whole, chunked=True).status_code == 200


@pytest.mark.parametrize("field", ["name", "shape", "datatype", "data"])
def test_values_nested_a_thousand_deep_are_refused(field: str, binary: Built) -> None:
    given = tensors(binary, [0])
    given[0][field] = "DEEP"
    body = orjson.dumps({"inputs": given}).replace(b'"DEEP"', DEEP)
    assert Client(binary).infer(content=body).status_code == 400


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([{"name": "score"}], "output 'score' is not one of this model's: it has label, probability"),
        ([{}], "output null is not one"),
        ("label", "`outputs` must be a list"),
        ([1], "`outputs` must be a list"),
    ],
    ids=["unknown", "nameless", "text", "number"],
)
def test_outputs_that_are_not_there_are_refused(asked: object, words: str, binary: Built) -> None:
    answer = Client(binary).infer(json={"inputs": tensors(binary, [0]), "outputs": asked})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_more_rows_than_the_bound_are_refused_by_their_shape(binary: Built) -> None:
    given = [{**each, "shape": [10_001], "data": each["data"] * 10_001} for each in tensors(binary, [1])]
    answer = Client(binary).infer(json={"inputs": given})
    assert answer.status_code == 413
    assert "10001 rows: send at most 10000" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"content-type": "text/csv"}, "send content-type application/json"),
        ({"content-encoding": "br"}, "send gzip, deflate, or none"),
    ],
    ids=["csv", "brotli"],
)
def test_other_encodings_are_refused(headers: dict[str, str], words: str, binary: Built) -> None:
    answer = Client(binary).infer(content=orjson.dumps({"inputs": tensors(binary, [0])}), headers=headers)
    assert answer.status_code == 415
    assert words in answer.json()["error"]


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_packed_body_is_unpacked(packing: str, binary: Built) -> None:
    pack = gzip.compress if packing == "gzip" else zlib.compress
    body = pack(orjson.dumps({"inputs": tensors(binary, [0])}))
    assert Client(binary).infer(content=body, headers={"content-encoding": packing}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"plain", 400),
        (gzip.compress(b"{}")[:-4], 400),
        (gzip.compress(b"{}") + b"more", 400),
        (gzip.compress(b" " * (8 * 2**20 + 1)), 413),
    ],
    ids=["not packed", "cut", "more than one stream", "a bomb"],
)
def test_a_packed_body_that_is_not_whole_or_too_large_is_refused(
    body: bytes, status: int, binary: Built
) -> None:
    assert Client(binary).infer(content=body, headers={"content-encoding": "gzip"}).status_code == status


def test_a_charset_beside_the_content_type_is_no_reason_to_refuse(binary: Built) -> None:
    body, headers = (
        orjson.dumps({"inputs": tensors(binary, [0])}),
        {"content-type": "application/json; charset=utf-8"},
    )
    assert Client(binary).infer(content=body, headers=headers).status_code == 200


def test_metadata_tell_inputs_outputs_and_classes(multiclass: Built) -> None:
    metadata = Client(multiclass).get("/v2/models/delays").json()
    assert metadata["versions"] == ["1.2.0"]
    assert metadata["inputs"] == [
        {"name": "distance", "datatype": "FP64", "shape": [-1], "parameters": {"nullable": False}}
    ]
    assert metadata["outputs"][2] == {"name": "probabilities", "datatype": "FP64", "shape": [-1, 3]}
    assert metadata["parameters"] == {"task": "multiclass", "classes": ["long", "middle", "short"]}
