"""The points behind `dvc plots`: ROC, calibration, confusion, and error by slice over time.

Every task has the same four files, so that one dvc.yaml serves them all; a regression is shown by
what answers the same question (is the upper half told from the lower, are the predictions right
on average, which fifth is taken for which). Files stay small, since Git keeps them.
"""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd

from coalmine.evaluation.measure import Rows
from coalmine.evaluation.metrics import Array, FloatArray, log_loss_per_row
from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Task

_ROC_POINTS = 200
_BINS = 10
_CONFUSION_ROWS = 1000
_MAXIMUM_SLICES = 20
_FIFTHS = ["lowest fifth", "second fifth", "middle fifth", "fourth fifth", "highest fifth"]


def roc(target: Array, predictions: Predictions) -> pd.DataFrame:
    """false_positive_rate, true_positive_rate. Multiclass: all classes against the rest, pooled.
    Regression: telling values above the median from those below."""
    positive, score = _binary_view(target, predictions)
    order = np.argsort(-score, kind="stable")
    hits = np.concatenate(([0], np.cumsum(positive[order])))
    misses = np.concatenate(([0], np.cumsum(~positive[order])))
    # Rows of equal score come in together: only where the score changes is there a point.
    changes = np.concatenate(([0], np.flatnonzero(np.diff(score[order])) + 1, [len(score)]))
    kept = changes[np.unique(np.linspace(0, len(changes) - 1, _ROC_POINTS).round().astype(int))]
    return pd.DataFrame(
        {
            "false_positive_rate": _rounded(misses[kept] / max(misses[-1], 1)),
            "true_positive_rate": _rounded(hits[kept] / max(hits[-1], 1)),
        }
    )


def calibration(target: Array, predictions: Predictions) -> pd.DataFrame:
    """predicted, observed: means over tenths of the rows, by prediction."""
    match predictions.task:
        case Task.REGRESSION:
            predicted, observed = predictions.outputs["prediction"], np.asarray(target, dtype=np.float64)
        case Task.BINARY | Task.MULTICLASS:
            positive, predicted = _binary_view(target, predictions)
            observed = positive.astype(np.float64)
    bins = pd.qcut(predicted, _BINS, labels=False, duplicates="drop")
    means = pd.DataFrame({"predicted": predicted, "observed": observed}).groupby(bins).mean()
    return means.map(lambda value: float(f"{value:.5g}"))


def confusion(target: Array, predictions: Predictions) -> pd.DataFrame:
    """actual, predicted: 1,000 rows that stand for all, each pair in its share. Regression: fifths
    of the range that the actual values fill."""
    if predictions.task is Task.REGRESSION:
        edges = np.quantile(target.astype(np.float64), [0.2, 0.4, 0.6, 0.8])
        named = np.array(_FIFTHS)
        actual, called = (
            named[np.searchsorted(edges, values)] for values in (target, predictions.outputs["prediction"])
        )
    else:
        actual, called = target, predictions.outputs["label"]
    pairs = pd.DataFrame({"actual": actual, "predicted": called}).value_counts(sort=False).sort_index()
    shares = pairs.to_numpy() / pairs.sum() * _CONFUSION_ROWS
    counts = np.floor(shares).astype(int)
    largest_remainders = np.argsort(-(shares - counts), kind="stable")
    counts[largest_remainders[: _CONFUSION_ROWS - counts.sum()]] += 1
    return pairs.index.to_frame(index=False).loc[lambda frame: frame.index.repeat(counts)]


def errors_over_time(
    rows: Rows, times: pd.Series[pd.Timestamp] | None, predictions: Predictions
) -> dict[str, pd.DataFrame]:
    """File stem (`all`, `origin=JFK`) to time, error: mean log loss, or absolute error, by day.

    At most 20 slices are drawn, the largest.
    """
    if predictions.task is Task.REGRESSION:
        error: FloatArray = np.abs(predictions.outputs["prediction"] - rows.target)
    else:
        error = log_loss_per_row(rows.target, predictions)
    time = pd.Series("all rows", index=range(len(error))) if times is None else times.dt.strftime("%Y-%m-%d")
    errors = pd.Series(error, index=time.to_numpy())
    drawn = {"all": _mean_error(errors)}
    sizes: list[tuple[int, str, npt.NDArray[np.bool_]]] = []
    for column, values in rows.slices.items():
        texts = pd.Series(values).astype("str").fillna("missing").to_numpy()
        sizes += [
            (int((texts == text).sum()), f"{column}={text}", texts == text) for text in np.unique(texts)
        ]
    for _, name, within in sorted(sizes, key=lambda each: (-each[0], each[1]))[:_MAXIMUM_SLICES]:
        drawn[quote(name, safe="= ")] = _mean_error(errors[within])
    return drawn


def _mean_error(errors: pd.Series[float]) -> pd.DataFrame:
    means = errors.groupby(level=0).mean().map(lambda value: float(f"{value:.5g}"))
    return means.rename_axis("time").rename("error").reset_index()


def _binary_view(target: Array, predictions: Predictions) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Whether something is so, and the score it was given."""
    match predictions.task:
        case Task.BINARY:
            return np.asarray(target == predictions.classes[1]), predictions.outputs["probability"]
        case Task.MULTICLASS:
            truth = np.asarray(target)[:, None] == np.asarray(predictions.classes)[None, :]
            return truth.ravel(), predictions.outputs["probabilities"].ravel()
        case Task.REGRESSION:
            return np.asarray(target > np.median(target)), predictions.outputs["prediction"]


def _rounded(values: FloatArray) -> FloatArray:
    return np.round(values, 4)
