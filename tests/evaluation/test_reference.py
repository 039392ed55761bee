"""How a model's rows lie in bins: what is kept of them, and where a value belongs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coalmine.errors import IntegrityError
from coalmine.evaluation.predictions import Predictions
from coalmine.evaluation.reference import (
    Distribution,
    Reference,
    counting,
    dump_reference,
    parse_reference,
    reference_of,
)
from coalmine.spec import Task

SCORES = Predictions(Task.BINARY, {"probability": np.array([0.1, 0.2, 0.9])}, (0, 1))


def kept(values: Any) -> Distribution:
    """Of one feature."""
    (feature, _score) = reference_of({"x": np.array(values)}, SCORES).distributions
    return feature


def texts(*values: str | None) -> Any:
    return np.array(values, dtype=object)


def test_it_is_read_as_it_was_written_and_equal_rows_give_equal_bytes() -> None:
    chance = np.random.default_rng(3)
    columns = {
        "amount": np.append(chance.normal(0, 1e-7, 500), np.nan),
        "count": chance.integers(-(2**40), 2**40, 501),
        "shop": chance.choice(np.array(["north", "süd", None], dtype=object), 501),
        "known": chance.random(501) < 0.5,
    }
    reference = reference_of(columns, SCORES)
    text = dump_reference(reference)
    assert parse_reference(text, "here") == reference
    assert dump_reference(reference_of({name: each.copy() for name, each in columns.items()}, SCORES)) == text
    assert [each.key for each in reference.distributions] == [
        "feature amount",
        "feature count",
        "feature shop",
        "feature known",
        "score probability",
    ]
    assert all(sum(each.rows) == 501 for each in reference.distributions[:-1])


def test_numbers_are_kept_in_bins_about_equally_full_and_two_that_are_empty() -> None:
    found = kept(np.arange(100.0))
    assert found.bounds == (0.0, *(9.0 + 10 * step for step in range(10)))
    assert found.rows == (0, *[10] * 10, 0, 0)


@pytest.mark.parametrize(
    ("values", "asked", "bin_"),
    [
        pytest.param([1.0, 2.0, 3.0], 0.999, "below 1", id="below all"),
        pytest.param([1.0, 2.0, 3.0], 1.0, "from 1 to 1", id="the smallest is not below"),
        pytest.param([1.0, 2.0, 3.0], 2.5, "from 2 to 3", id="between two"),
        pytest.param([1.0, 2.0, 3.0], 3, "from 2 to 3", id="the largest, a whole number"),
        pytest.param([1.0, 2.0, 3.0], 1e300, "above 3", id="above all"),
        pytest.param([1.0, np.nan], None, "missing", id="missing"),
        pytest.param([7.0, 7.0], 7.0, "from 7 to 7", id="a constant"),
        pytest.param([7.0, 7.0], 6.9, "below 7", id="below a constant"),
        pytest.param([np.nan, np.nan], 5.0, "a number", id="never there in training"),
        pytest.param([0.0] * 90 + [5.0] * 10, 0.0, "from 0 to 0", id="mostly one number"),
        pytest.param(texts("a", "a", "b"), "b", "b", id="a level"),
        pytest.param(texts("a", "a", "b"), "c", "another value", id="a new level"),
        pytest.param(texts("a", None), None, "missing", id="a missing text"),
        pytest.param(texts("a", "x" * 101), "x" * 101, "another value", id="a text that is no level"),
        pytest.param(np.array([True, False]), False, "False", id="a boolean"),
    ],
)
def test_a_value_belongs_to_one_bin(values: Any, asked: Any, bin_: str) -> None:
    distribution = kept(values)
    counts = counting(distribution)([asked])
    assert sum(counts) == 1
    assert len(counts) == len(distribution.rows)
    assert distribution.bin_words(counts.index(1)) == bin_


def test_the_rows_it_was_made_of_lie_as_it_says() -> None:
    chance = np.random.default_rng(4)
    numbers = np.where(chance.random(300) < 0.1, np.nan, chance.integers(0, 5, 300))
    words = chance.choice(np.array([*"abcdefghijklmnop", None], dtype=object), 300)
    for values in (numbers, words):
        distribution = kept(values)
        assert (
            counting(distribution)([None if each != each else each for each in values]) == distribution.rows
        )


def test_the_most_frequent_levels_are_kept_and_the_others_together() -> None:
    found = kept(texts(*"a" * 30, *"b" * 20, *[f"rare {n}" for n in range(50)]))
    assert found.levels is not None
    assert found.levels[:2] == ("a", "b")
    assert len(found.levels) == 10
    assert found.rows == (30, 20, *[1] * 8, 42, 0)


def test_a_model_of_many_features_ends_in_a_bounded_number_of_bins() -> None:
    many = {f"f{place}": np.arange(50.0) for place in range(250)}
    reference = reference_of(many, SCORES)
    assert sum(len(each.rows) for each in reference.distributions) < 1700
    assert reference.left_out == tuple(f"f{place}" for place in range(200, 250))


def test_the_score_is_that_of_the_task() -> None:
    prices = Predictions(Task.REGRESSION, {"prediction": np.arange(5.0)}, ())
    classes = {
        "label": np.array([0]),
        "probability": np.array([0.7]),
        "probabilities": np.array([[0.7, 0.3]]),
    }
    names = [
        reference_of({}, each).distributions[-1].name
        for each in (SCORES, prices, Predictions(Task.MULTICLASS, classes, (0, 1)))
    ]
    assert names == ["probability", "prediction", "probability"]


def test_what_was_edited_by_hand_is_refused() -> None:
    text = dump_reference(Reference(distributions=()))
    with pytest.raises(IntegrityError, match=r"models/m/reference\.json is not a reference"):
        parse_reference(text.replace("distributions", "distribution"), "models/m/reference.json")
