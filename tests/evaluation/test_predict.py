"""The names and values under which a model answers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier

from coalmine.evaluation.predict import predict
from coalmine.spec import Task

CHANCE = np.random.default_rng(0)
ROWS = pd.DataFrame({"a": CHANCE.normal(size=60), "b": CHANCE.normal(size=60)})
TEXTS = np.where(ROWS["a"] > 0.3, "yes", "no")


def test_binary_gives_the_probability_of_the_last_class():
    model = LogisticRegression().fit(ROWS, TEXTS)
    said = predict(model, ROWS, Task.BINARY)
    assert said.classes == ("no", "yes")
    assert np.array_equal(said.outputs["probability"], model.predict_proba(ROWS)[:, 1])
    assert np.array_equal(said.outputs["label"], model.predict(ROWS))


def test_multiclass_gives_every_probability():
    target = np.digitize(ROWS["a"], [-0.5, 0.5])
    model = LogisticRegression().fit(ROWS, target)
    said = predict(model, ROWS, Task.MULTICLASS)
    assert said.outputs["probabilities"].shape == (60, 3)
    assert np.array_equal(said.outputs["label"], model.predict(ROWS))
    assert np.array_equal(said.outputs["probability"], said.outputs["probabilities"].max(axis=1))


def test_regression_gives_a_prediction():
    model = LinearRegression().fit(ROWS, ROWS["a"] * 2)
    said = predict(model, ROWS, Task.REGRESSION)
    assert said.outputs["prediction"] == pytest.approx(ROWS["a"] * 2)
    assert said.classes == ()


def test_a_classifier_with_its_own_threshold_names_its_own_label():
    model = FixedThresholdClassifier(LogisticRegression(), threshold=0.9, response_method="predict_proba")
    model.fit(ROWS, TEXTS)
    said = predict(model, ROWS, Task.BINARY)
    assert np.array_equal(said.outputs["label"], model.predict(ROWS))
    assert not np.array_equal(said.outputs["label"], np.where(said.outputs["probability"] > 0.5, "yes", "no"))
