from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.evaluation.predict import predict
from coalmine.evaluation.signature import model_frame, rows
from coalmine.manifest import Tensor
from coalmine.serving.records import Records, answer, read_records
from coalmine.serving.refusal import FailureKind, Refusal
from tests.serving.releases import Built

INPUTS = (
    Tensor(name="distance", datatype="INT64"),
    Tensor(name="pressure", datatype="FP64", nullable=True),
    Tensor(name="carrier", datatype="BYTES", nullable=True),
    Tensor(name="weekend", datatype="BOOL"),
)
RECORD = {"distance": 500, "pressure": 1013.5, "carrier": "UA", "weekend": True}


def read(message: Any, max_rows: int = 100) -> Records:
    return read_records(message, INPUTS, max_rows)


def with_field(name: str, value: Any) -> dict[str, Any]:
    return {**RECORD, name: value}


def test_one_record_is_a_row() -> None:
    columns = {"distance": [500], "pressure": [1013.5], "carrier": ["UA"], "weekend": [True]}
    assert read(RECORD) == Records(columns, 1, is_single=True)


def test_a_list_of_one_is_answered_as_a_list() -> None:
    assert read([RECORD]).is_single is False


def test_records_become_columns_in_the_models_order_whatever_the_order_of_the_fields() -> None:
    backwards = dict(reversed(with_field("distance", 700).items()))
    columns = read([RECORD, backwards]).columns
    assert list(columns) == [each.name for each in INPUTS]
    assert columns["distance"] == [500, 700]


def test_records_make_the_rows_that_training_made(binary: Built) -> None:
    inputs = binary.manifest.inputs
    offline = model_frame(binary.rows, [each.name for each in inputs]).reset_index(drop=True)
    sent = json.loads(offline.to_json(orient="records", double_precision=15))
    online = rows(inputs, read_records(sent, inputs, len(sent)).columns)
    assert online.dtypes.to_dict() == offline.dtypes.to_dict()
    np.testing.assert_allclose(online["pressure"], offline["pressure"], rtol=1e-14)
    assert online.drop(columns="pressure").equals(offline.drop(columns="pressure"))


@pytest.mark.parametrize("record", [{}, {"carrier": None, "pressure": None}], ids=["left out", "null"])
def test_a_value_may_be_missing_where_training_had_missing_values(record: dict[str, Any]) -> None:
    columns = read({"distance": 1, "weekend": False, **record}).columns
    assert columns["carrier"] == [None]
    assert columns["pressure"] == [None]


@pytest.mark.parametrize(
    ("name", "sent", "meant"),
    [
        ("distance", 500.0, 500),
        ("distance", -(2**63), -(2**63)),
        ("distance", 2**63 - 1, 2**63 - 1),
        ("pressure", 1013, 1013.0),
        ("pressure", 2**60, float(2**60)),
        ("carrier", "", ""),
        ("carrier", "Zürich ✈", "Zürich ✈"),
    ],
    ids=["whole float", "least", "greatest", "int for FP64", "great power of two", "empty text", "any text"],
)
def test_a_value_is_taken_in_the_inputs_own_type(name: str, sent: Any, meant: Any) -> None:
    (value,) = read(with_field(name, sent)).columns[name]
    assert value == meant
    assert type(value) is type(meant)


WRONG_FIELDS = {
    "text for INT64": (with_field("distance", "far"), "field `distance` is 'far': send a whole number"),
    "fraction for INT64": (with_field("distance", 3.5), "field `distance` is 3.5: send a whole number"),
    "true for INT64": (with_field("distance", True), "field `distance` is true: send a whole number"),
    "beyond INT64": (with_field("distance", 2**63), "field `distance` is 9223372036854775808: INT64 goes"),
    "below INT64": (with_field("distance", -(2**63) - 1), "to 9223372036854775807"),
    "float that was rounded": (with_field("distance", 2.0**60), "field `distance` is 1.152921504606847e+18"),
    "text for FP64": (with_field("pressure", "1013"), "field `pressure` is '1013': send a number"),
    "true for FP64": (with_field("pressure", True), "field `pressure` is true: send a number"),
    "infinity": (with_field("pressure", math.inf), "field `pressure` is inf: send a number"),
    "NaN": (with_field("pressure", math.nan), "field `pressure` is nan: send a number"),
    "inexact in FP64": (
        with_field("pressure", 2**53 + 1),
        "`pressure` is 9007199254740993, which FP64 cannot hold exactly: send a number that it holds",
    ),
    "beyond FP64": (with_field("pressure", 10**400), "which FP64 cannot hold exactly"),
    "number for BYTES": (with_field("carrier", 7), "field `carrier` is 7: send a text"),
    "number for BOOL": (with_field("weekend", 1), "field `weekend` is 1: send true or false"),
    "text for BOOL": (with_field("weekend", "true"), "field `weekend` is 'true': send true or false"),
    "list": (with_field("carrier", ["UA"]), "field `carrier` is a list: send a text"),
    "object": (with_field("distance", {"km": 3}), "field `distance` is an object: send a whole number"),
    "unknown field": (with_field("carier", "UA"), "field 'carier' is not one of this model's: did you mean"),
    "strange field": (with_field("xyz", 1), "it takes distance, pressure, carrier, weekend"),
    "wrapped": ({"records": [RECORD]}, "field 'records' is not one of this model's"),
}


@pytest.mark.parametrize(("record", "words"), WRONG_FIELDS.values(), ids=WRONG_FIELDS)
def test_a_wrong_field_is_refused_with_the_field_what_was_sent_and_the_remedy(
    record: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refusal) as refused:
        read(record)
    assert words in str(refused.value)
    assert (refused.value.kind, refused.value.status) == (FailureKind.SCHEMA, 400)


def test_a_refusal_in_a_list_names_the_record() -> None:
    with pytest.raises(Refusal, match=r"^record 1: field `weekend` is 1: send true or false$"):
        read([RECORD, with_field("weekend", 1)])


@pytest.mark.parametrize("sent", [{"weekend": None}, {}], ids=["null", "left out"])
def test_a_missing_value_is_refused_where_training_had_none(sent: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=r"record 0: field `weekend` is missing.*send true or false") as refused:
        read([{"distance": 1, **sent}])
    assert refused.value.kind is FailureKind.MISSING_VALUE


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (None, "the body is null"),
        (True, "the body is true"),
        ("UA", "the body is 'UA'"),
        ([], "no records"),
        ([RECORD, [RECORD]], "record 1: a list is not a record"),
        ([RECORD, None], "record 1: null is not a record"),
        ([[[[[]]]]], "record 0: a list is not a record"),
    ],
    ids=["null", "true", "text", "empty", "nested list", "null record", "deep"],
)
def test_what_is_no_record_is_refused_with_the_form_of_one(message: Any, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(message)
    assert words in str(refused.value)
    assert (refused.value.kind, refused.value.status) == (FailureKind.MALFORMED, 400)
    assert message == [] or '{"distance": ...}' in str(refused.value)


def test_more_records_than_the_server_takes_are_too_large() -> None:
    assert read([RECORD] * 3, max_rows=3).count == 3
    with pytest.raises(Refusal, match="4 records: send at most 3 in one request") as refused:
        read([RECORD] * 4, max_rows=3)
    assert (refused.value.kind, refused.value.status) == (FailureKind.TOO_LARGE, 413)


def test_a_refusal_is_short_whatever_was_sent() -> None:
    for long in (
        with_field("x" * 10**6, 1),
        with_field("carrier", [0] * 10**5),
        with_field("weekend", "x" * 10**6),
    ):
        with pytest.raises(Refusal) as refused:
            read(long)
        assert len(str(refused.value)) < 300


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NEARLY_RECORDS = st.dictionaries(st.sampled_from([*RECORD, "carier", ""]), ANY_JSON)
GOOD_RECORDS = st.fixed_dictionaries(
    {"distance": st.integers(-(2**63), 2**63 - 1), "weekend": st.booleans()},
    optional={
        "pressure": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "carrier": st.none() | st.text(),
    },
)


@given(ANY_JSON | NEARLY_RECORDS | st.lists(NEARLY_RECORDS | GOOD_RECORDS, max_size=4))
def test_any_json_gives_records_or_a_refusal(message: Any) -> None:
    try:
        records = read(message, max_rows=3)
    except Refusal:
        return
    missing = type(None)
    kinds = {"distance": {int}, "pressure": {float, missing}, "carrier": {str, missing}, "weekend": {bool}}
    for name, values in records.columns.items():
        assert len(values) == records.count
        assert set(map(type, values)) <= kinds[name]


@given(st.lists(GOOD_RECORDS, min_size=1, max_size=5))
def test_good_records_come_through_unchanged(sent: list[dict[str, Any]]) -> None:
    records = read(orjson.loads(orjson.dumps(sent)))
    for name, values in records.columns.items():
        assert values == [record.get(name) for record in sent]


def answered(built: Built, sent: Any) -> tuple[dict[str, list[Any]], Any]:
    """What the model says, and what the answer makes of it."""
    inputs = built.manifest.inputs
    asked = read_records(sent, inputs, 10)
    outputs = {
        name: values.tolist()
        for name, values in predict(
            built.model, rows(inputs, asked.columns), built.manifest.task
        ).outputs.items()
    }
    return outputs, orjson.loads(answer(built.manifest, "a-1", outputs, asked.is_single))


def test_a_binary_model_answers_with_its_label_and_the_probability_of_the_positive_class(
    binary: Built,
) -> None:
    outputs, said = answered(binary, RECORD)
    prediction = {"label": outputs["label"][0], "probability": outputs["probability"][0]}
    assert said == {"model": "delays", "version": "1.2.0", "id": "a-1", "prediction": prediction}


def test_a_multiclass_model_answers_with_a_probability_for_each_class_by_name(multiclass: Built) -> None:
    outputs, said = answered(multiclass, [{"distance": 100.0}, {"distance": 2900.0}])
    first, second = said["predictions"]
    assert (first["label"], second["label"]) == ("short", "long")
    for each, probabilities in zip((first, second), outputs["probabilities"], strict=True):
        assert list(each["probabilities"].items()) == list(
            zip(multiclass.manifest.classes, probabilities, strict=True)
        )
        assert each["probabilities"][each["label"]] == each["probability"]


def test_a_regression_answers_with_a_number(regression: Built) -> None:
    outputs, said = answered(regression, [{"distance": 100.0}, {"distance": 200.0}])
    assert [each["prediction"] for each in said["predictions"]] == outputs["prediction"]


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ((0, 1, 2), ["0", "1", "2"]),
        (("a", "b", "ü"), ["a", "b", "ü"]),
        ((0.5, 1.5, 2.0), ["0.5", "1.5", "2.0"]),
    ],
    ids=["whole numbers", "texts", "numbers"],
)
def test_classes_that_are_no_texts_are_keys_as_json_writes_them(
    classes: tuple[Any, ...], names: list[str], multiclass: Built
) -> None:
    manifest = multiclass.manifest.model_copy(update={"classes": classes})
    outputs = {"label": [classes[0]], "probability": [0.5], "probabilities": [[0.5, 0.3, 0.2]]}
    said = orjson.loads(answer(manifest, "a", outputs, is_single=True))
    assert said["prediction"]["probabilities"] == dict(zip(names, [0.5, 0.3, 0.2], strict=True))
    assert said["prediction"]["label"] == classes[0]
