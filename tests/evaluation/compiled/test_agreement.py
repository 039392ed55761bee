"""A translation is used where it was shown to agree, and scikit-learn everywhere else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from coalmine.evaluation import signature
from coalmine.evaluation.compiled.agreement import compile_model, max_difference
from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Task
from pipelines import features
from tests.evaluation.compiled.fitted import learnt_rows, target_of

FEATURES = ["size", "weight"]


def compiled(model: Any) -> tuple[Any, bytes | None]:
    rows = learnt_rows(0, gaps=False)
    model.fit(signature.model_frame(rows, FEATURES), target_of(rows, Task.BINARY, 0))
    return compile_model(model, rows, signature.inputs(rows, FEATURES), Task.BINARY)


def with_function(function: Any) -> Any:
    return make_pipeline(
        make_column_transformer((FunctionTransformer(function), FEATURES)),
        HistGradientBoostingClassifier(max_iter=3),
    )


def own(rows: Any) -> Any:
    return np.asarray(rows, dtype=np.float64)


def needs_names(rows: Any) -> Any:
    return rows[FEATURES]


def knows_the_rows(rows: Any) -> Any:
    return own(rows) - (0 if isinstance(rows, pd.DataFrame) else 100)


def looks_at_other_rows(rows: Any) -> Any:
    return own(rows) - own(rows).mean(axis=0)


@pytest.fixture
def as_ours(monkeypatch):
    """A function as if it stood in pipelines/features.py."""

    def place(function: Any) -> Any:
        monkeypatch.setattr(function, "__module__", "pipelines.features")
        monkeypatch.setattr(features, function.__name__, function, raising=False)
        return function

    return place


def test_what_agrees_on_every_row_is_used(as_ours):
    found, trees = compiled(with_function(as_ours(own)))
    assert (found.kind, found.rows, found.tolerance) == ("compiled", 240, 1e-9)
    assert found.reason == "agrees with scikit-learn on all 240 test rows"
    assert 0 <= found.max_difference <= 1e-14
    assert found.plan is not None
    assert trees


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (needs_names, "the translation failed: IndexError"),
        (knows_the_rows, "differs from scikit-learn"),
        (looks_at_other_rows, "a row alone is encoded in another way than among others"),
    ],
    ids=["needs names", "depends on who asks", "depends on the other rows"],
)
def test_a_function_that_cannot_serve_leaves_the_model_to_scikit_learn(as_ours, function, said):
    found, trees = compiled(with_function(as_ours(function)))
    assert (found.kind, found.plan, trees) == ("scikit-learn", None, None)
    assert said in found.reason


def nearly_right(rows: Any) -> Any:
    return own(rows) + (0 if isinstance(rows, pd.DataFrame) else 1e-7)


def test_a_difference_beyond_the_tolerance_is_one_even_where_labels_agree(as_ours):
    function = FunctionTransformer(as_ours(nearly_right))
    found, trees = compiled(
        make_pipeline(make_column_transformer((function, FEATURES)), LogisticRegression())
    )
    assert (found.kind, found.plan, trees) == ("scikit-learn", None, None)
    assert re.search(r"differs from scikit-learn by up to \d\S*e-08 on 240 test rows", found.reason)


def test_a_model_without_a_translation_says_why():
    found, _ = compiled(GaussianNB())
    assert found.kind == "scikit-learn"
    assert found.reason == "sklearn.naive_bayes.GaussianNB has no translation"


SAID = Predictions(
    Task.BINARY,
    {"label": np.array(["no", "yes"], dtype=object), "probability": np.array([0.2, 0.7])},
    ("no", "yes"),
)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (SAID, 0.0),
        (replace(SAID, outputs={**SAID.outputs, "probability": np.array([0.2, 0.75])}), 0.05),
        (replace(SAID, outputs={**SAID.outputs, "probability": np.array([0.2, np.nan])}), np.nan),
        (replace(SAID, outputs={**SAID.outputs, "label": np.array(["no", "no"], dtype=object)}), None),
        (replace(SAID, outputs={**SAID.outputs, "label": np.array(["no", "yes"])}), None),
        (replace(SAID, outputs={"label": SAID.outputs["label"]}), None),
        (replace(SAID, classes=("yes", "no")), None),
    ],
    ids=["equal", "number", "no number", "label", "type of label", "an answer less", "classes"],
)
def test_answers_differ_in_their_numbers_or_altogether(other, difference):
    assert max_difference(SAID, other) == pytest.approx(difference, nan_ok=True)
