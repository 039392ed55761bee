"""The files behind `dvc plots`: right, and small."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, roc_auc_score

from coalmine.evaluation import curves
from coalmine.evaluation.measure import Rows
from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Task

CHANCE = np.random.default_rng(0)
COUNT = 3000
TARGET = CHANCE.integers(0, 2, COUNT)
SCORE = np.round(np.clip(0.3 * TARGET + CHANCE.uniform(0, 0.7, COUNT), 0, 1), 3)
BINARY = Predictions(Task.BINARY, {"label": (SCORE > 0.5).astype(int), "probability": SCORE}, (0, 1))
PROBABILITIES = CHANCE.dirichlet([1, 1, 1], COUNT)
NAMES = np.array(["a", "b", "c"])
MULTICLASS = Predictions(
    Task.MULTICLASS,
    {
        "label": NAMES[PROBABILITIES.argmax(1)],
        "probability": PROBABILITIES.max(1),
        "probabilities": PROBABILITIES,
    },
    ("a", "b", "c"),
)
REGRESSION = Predictions(Task.REGRESSION, {"prediction": SCORE}, ())
TASKS = pytest.mark.parametrize(
    ("target", "predictions"),
    [
        (TARGET, BINARY),
        (CHANCE.choice(NAMES, COUNT), MULTICLASS),
        (SCORE + CHANCE.normal(0, 0.1, COUNT), REGRESSION),
    ],
    ids=["binary", "multiclass", "regression"],
)


def test_area_under_the_drawn_curve_is_the_metric():
    drawn = curves.roc(TARGET, BINARY)
    area = auc(drawn["false_positive_rate"], drawn["true_positive_rate"])
    assert area == pytest.approx(roc_auc_score(TARGET, SCORE), abs=0.002)


def test_rows_of_equal_score_come_in_together():
    same = Predictions(Task.BINARY, {"label": TARGET, "probability": np.full(COUNT, 0.5)}, (0, 1))
    assert curves.roc(TARGET, same).to_numpy().tolist() == [[0, 0], [1, 1]]


@TASKS
def test_every_task_has_every_plot(target, predictions):
    roc = curves.roc(target, predictions)
    assert len(roc) <= 200
    assert roc.iloc[0].tolist() == [0, 0]
    assert roc.iloc[-1].tolist() == [1, 1]
    assert 2 <= len(curves.calibration(target, predictions)) <= 10
    confusion = curves.confusion(target, predictions)
    assert len(confusion) == 1000
    assert list(confusion.columns) == ["actual", "predicted"]


def test_calibration_compares_means():
    drawn = curves.calibration(
        TARGET, Predictions(Task.BINARY, {"label": TARGET, "probability": SCORE}, (0, 1))
    )
    lowest = np.quantile(SCORE, 0.1) >= SCORE
    assert drawn["predicted"].iloc[0] == pytest.approx(SCORE[lowest].mean(), rel=0.01)
    assert drawn["observed"].iloc[0] == pytest.approx(TARGET[lowest].mean(), abs=0.02)


def test_confusion_keeps_the_shares():
    share = (curves.confusion(TARGET, BINARY) == [1, 1]).all(axis=1).mean()
    assert share == pytest.approx(((TARGET == 1) & (SCORE > 0.5)).mean(), abs=0.001)


def test_error_by_slice_and_day_with_names_that_are_safe_for_files():
    origin = np.where(np.arange(COUNT) % 2, "JFK", "a/b")
    rows = Rows("2013-05", TARGET, None, {"origin": origin})
    times = pd.Series(pd.date_range("2013-05-01", periods=COUNT, freq="h"))
    drawn = curves.errors_over_time(rows, times, BINARY)
    assert list(drawn) == ["all", "origin=JFK", "origin=a%2Fb"]
    assert drawn["all"]["time"].tolist() == [
        f"{day:%Y-%m-%d}" for day in pd.date_range("2013-05-01", periods=125)
    ]


def test_rows_without_a_time_are_one_point():
    drawn = curves.errors_over_time(Rows("the test rows", TARGET, None, {}), None, BINARY)
    assert drawn["all"]["time"].tolist() == ["all rows"]
