"""Rows from tensors: the usual request read quickly means what the careful way says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalmine.manifest import Tensor
from coalmine.serving.refusal import Refusal
from coalmine.serving.tensors import MAX_ROWS, InputSchema

NUMBERS = tuple(Tensor(name=name, datatype="FP64", nullable=name == "b") for name in "abc")
MIXED = (
    Tensor(name="n", datatype="INT64"),
    Tensor(name="x", datatype="FP64", nullable=True),
    Tensor(name="t", datatype="BYTES"),
    Tensor(name="w", datatype="BOOL"),
)


def matrix(
    data: Any, shape: list[int], name: str = "input-0", datatype: str = "FP64"
) -> list[dict[str, Any]]:
    return [{"name": name, "shape": shape, "datatype": datatype, "data": data}]


def read(schema: InputSchema, tensors: Any) -> Any:
    """What a request's rows are as plain columns, or the words of the refusal."""
    try:
        rows = schema.rows(tensors)
    except Refusal as refusal:
        return str(refusal)
    if rows.packed is None:
        return rows.columns
    return rows.by_input("abc")


ROW_MAJOR: dict[str, tuple[Any, list[int], str]] = {
    "one row": ([1.0, 2.0, 3.0], [1, 3], "FP64"),
    "flat": ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], "FP64"),
    "nested": ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [2, 3], "FP64"),
    "whole numbers": ([[1, 2, 3], [4, 5, 6]], [2, 3], "INT64"),
}


@pytest.mark.parametrize(("data", "shape", "datatype"), ROW_MAJOR.values(), ids=ROW_MAJOR)
def test_one_row_major_tensor_holds_all_inputs(data: Any, shape: list[int], datatype: str) -> None:
    wanted = {"a": [1, 4], "b": [2, 5], "c": [3, 6]}
    found = read(InputSchema(NUMBERS), matrix(data, shape, datatype=datatype))
    assert found == {name: values[: shape[0]] for name, values in wanted.items()}


def test_a_row_major_tensor_may_miss_what_its_input_may() -> None:
    schema = InputSchema(NUMBERS)
    assert read(schema, matrix([1.0, None, 3.0], [1, 3]))["b"] == [None]
    assert "input `a` has a missing value in row 0" in read(schema, matrix([None, 2.0, 3.0], [1, 3]))


BAD_MATRIX: dict[str, tuple[Any, list[int], str]] = {
    "too few values": ([1.0, 2.0], [1, 3], "has 2 values in `data`, but its shape says 1 x 3"),
    "a short row": ([[1.0, 2.0, 3.0], [4.0]], [2, 3], "each row of `data` must have 3 values"),
    "a text": (["1", 2.0, 3.0], [1, 3], "input `a` has '1' in row 0, which is not a number"),
    "true": ([True, 2.0, 3.0], [1, 3], "input `a` has true in row 0"),
    "other width": ([1.0, 2.0], [1, 2], "input 'input-0' is not one of this model's"),
    "no rows": ([], [0, 3], "has no rows"),
    "too many rows": ([], [MAX_ROWS + 1, 3], f"send at most {MAX_ROWS}"),
    "no data": (None, [1, 3], "has no `data` list"),
}


@pytest.mark.parametrize(("data", "shape", "words"), BAD_MATRIX.values(), ids=BAD_MATRIX)
def test_a_bad_row_major_tensor_is_refused(data: Any, shape: list[int], words: str) -> None:
    assert words in read(InputSchema(NUMBERS), matrix(data, shape))


def test_a_row_major_tensor_is_for_models_of_numbers_alone() -> None:
    said = read(InputSchema(MIXED), matrix([1, 2, 3, 4], [1, 4]))
    assert "they are not all numbers: send one tensor for each of n, x, t, w" in said


def test_a_model_of_one_input_takes_it_by_any_name() -> None:
    schema = InputSchema(NUMBERS[:1])
    for name in ("a", "input-0"):
        assert schema.rows(matrix([1.0, 2.0], [2, 1], name)).columns == {"a": [1.0, 2.0]}


# Values of every kind, each of them right for some datatype and wrong for others.
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.just([1.0]),
)
_SHAPES = st.sampled_from([[1], [1.0], [1, 1], [1, 3], [2], [True], [], [0], None, 1])
_DATATYPES = st.sampled_from(["FP64", "INT64", "BYTES", "BOOL", "FP32", "INT8", "x", None])


@st.composite
def requests(draw: Any, names: str) -> Any:
    tensors = [
        {
            "name": name,
            "shape": draw(st.one_of(st.just([1]), _SHAPES)),
            "datatype": draw(_DATATYPES),
            "data": draw(st.one_of(st.lists(_VALUES, min_size=1, max_size=3), _VALUES)),
        }
        for name in draw(st.permutations(names))
    ]
    return tensors[draw(st.integers(0, 1)) :]


@pytest.mark.parametrize("inputs", [NUMBERS, MIXED], ids=["numbers", "mixed"])
def test_the_quick_way_and_the_careful_way_agree(inputs: tuple[Tensor, ...]) -> None:
    schema = InputSchema(inputs)

    @settings(max_examples=400, deadline=None)
    @given(requests("".join(each.name for each in inputs)))
    def agree(tensors: Any) -> None:
        try:
            careful: Any = schema.read(tensors).columns
        except Refusal as refusal:
            careful = str(refusal)
        assert read(schema, tensors) == careful

    agree()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(_VALUES, min_size=2, max_size=4),
    st.sampled_from([[1, 3], [1.0, 3], [3], [True, 3], [1]]),
    _DATATYPES,
)
def test_the_two_ways_agree_on_row_major_tensors(data: Any, shape: Any, datatype: Any) -> None:
    schema = InputSchema(NUMBERS)
    tensors = matrix(data, shape, datatype=datatype)
    try:
        careful: Any = schema.read(tensors).columns
    except Refusal as refusal:
        careful = str(refusal)
    assert read(schema, tensors) == careful


def test_one_usual_row_of_numbers_is_packed() -> None:
    rows = InputSchema(NUMBERS).rows(matrix([1, 2.5, 3], [1, 3]))
    assert rows.packed is not None
    assert np.frombuffer(rows.packed).tolist() == [1.0, 2.5, 3.0]
