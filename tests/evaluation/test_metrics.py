"""Metrics agree with scikit-learn's under any weights, and say when they are undefined."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference

from coalmine.errors import DataRefused, SpecError
from coalmine.evaluation.metrics import metric, metrics_of, statistic
from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Evaluation, Task

CHANCE = np.random.default_rng(7)
ROWS = 400
TARGET = CHANCE.integers(0, 2, ROWS)
SCORE = np.round(np.clip(0.4 * TARGET + CHANCE.uniform(0, 0.6, ROWS), 0.01, 0.99), 2)  # with ties
WEIGHTS = CHANCE.integers(0, 4, ROWS).astype(float)
LABEL = (SCORE > 0.5).astype(int)
BINARY = Predictions(Task.BINARY, {"label": LABEL, "probability": SCORE}, (0, 1))

CLASSES = ("a", "b", "c")
NAMES = CHANCE.choice(CLASSES, ROWS)
PROBABILITIES = CHANCE.dirichlet([1, 1, 1], ROWS)
NAMED = np.array(CLASSES)[PROBABILITIES.argmax(axis=1)]
MULTICLASS = Predictions(
    Task.MULTICLASS,
    {"label": NAMED, "probability": PROBABILITIES.max(axis=1), "probabilities": PROBABILITIES},
    CLASSES,
)

VALUES = CHANCE.normal(size=ROWS)
REGRESSION = Predictions(Task.REGRESSION, {"prediction": VALUES + CHANCE.normal(0, 0.3, ROWS)}, ())
PREDICTION = REGRESSION.outputs["prediction"]


@pytest.mark.parametrize("weights", [np.ones(ROWS), WEIGHTS], ids=["equal weights", "drawn weights"])
@pytest.mark.parametrize(
    ("name", "target", "predictions", "expected"),
    [
        ("roc_auc", TARGET, BINARY, lambda w: reference.roc_auc_score(TARGET, SCORE, sample_weight=w)),
        (
            "average_precision",
            TARGET,
            BINARY,
            lambda w: reference.average_precision_score(TARGET, SCORE, sample_weight=w),
        ),
        ("log_loss", TARGET, BINARY, lambda w: reference.log_loss(TARGET, SCORE, sample_weight=w)),
        ("brier", TARGET, BINARY, lambda w: reference.brier_score_loss(TARGET, SCORE, sample_weight=w)),
        ("accuracy", TARGET, BINARY, lambda w: reference.accuracy_score(TARGET, LABEL, sample_weight=w)),
        (
            "balanced_accuracy",
            TARGET,
            BINARY,
            lambda w: reference.balanced_accuracy_score(TARGET, LABEL, sample_weight=w),
        ),
        ("f1", TARGET, BINARY, lambda w: reference.f1_score(TARGET, LABEL, sample_weight=w)),
        ("precision", TARGET, BINARY, lambda w: reference.precision_score(TARGET, LABEL, sample_weight=w)),
        ("recall", TARGET, BINARY, lambda w: reference.recall_score(TARGET, LABEL, sample_weight=w)),
        ("log_loss", NAMES, MULTICLASS, lambda w: reference.log_loss(NAMES, PROBABILITIES, sample_weight=w)),
        ("accuracy", NAMES, MULTICLASS, lambda w: reference.accuracy_score(NAMES, NAMED, sample_weight=w)),
        (
            "f1",
            NAMES,
            MULTICLASS,
            lambda w: reference.f1_score(NAMES, NAMED, average="macro", sample_weight=w),
        ),
        (
            "brier",
            NAMES,
            MULTICLASS,
            lambda w: reference.brier_score_loss(NAMES, PROBABILITIES, sample_weight=w, scale_by_half=False),
        ),
        (
            "roc_auc",
            NAMES,
            MULTICLASS,
            lambda w: np.mean(
                [
                    reference.roc_auc_score(name == NAMES, PROBABILITIES[:, k], sample_weight=w)
                    for k, name in enumerate(CLASSES)
                ]
            ),
        ),
        (
            "mae",
            VALUES,
            REGRESSION,
            lambda w: reference.mean_absolute_error(VALUES, PREDICTION, sample_weight=w),
        ),
        (
            "mse",
            VALUES,
            REGRESSION,
            lambda w: reference.mean_squared_error(VALUES, PREDICTION, sample_weight=w),
        ),
        (
            "rmse",
            VALUES,
            REGRESSION,
            lambda w: reference.root_mean_squared_error(VALUES, PREDICTION, sample_weight=w),
        ),
        ("r2", VALUES, REGRESSION, lambda w: reference.r2_score(VALUES, PREDICTION, sample_weight=w)),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "task", None),
)
def test_metric_equals_scikit_learns(name, target, predictions, expected, weights):
    found = metric(name, predictions.task, "evaluation.metrics")
    assert statistic(found, target, predictions)(weights) == pytest.approx(expected(weights), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "target", "predictions"),
    [("roc_auc", TARGET, BINARY), ("average_precision", TARGET, BINARY), ("recall", TARGET, BINARY)],
)
def test_a_draw_without_positives_is_undefined(name, target, predictions):
    value = statistic(metric(name, Task.BINARY, ""), target, predictions)((target == 0).astype(float))
    assert math.isnan(value)


def test_unknown_metric_names_the_key_and_the_nearest():
    with pytest.raises(SpecError, match=r"`evaluation.bounds` names `roc_acu`.*did you mean `roc_auc`"):
        metrics_of(Evaluation(metrics=("log_loss",), bounds={"roc_acu": {}}), Task.BINARY)


def test_metric_of_another_task_is_refused():
    with pytest.raises(SpecError, match="no metric of a regression model"):
        metric("roc_auc", Task.REGRESSION, "evaluation.metrics")


def test_class_that_was_never_trained_on_is_refused():
    with pytest.raises(DataRefused, match=r"class.*2, which the model was not trained on"):
        statistic(metric("log_loss", Task.BINARY, ""), np.array([0, 1, 2]), BINARY.of(np.arange(3)))
