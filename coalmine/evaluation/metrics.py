"""Metrics as functions of row weights.

A resample is a weighting of the rows, so whatever does not depend on the weights (sorting,
losses per row) is done once, and each resample costs a few passes over arrays. Equal weights
give scikit-learn's values. Undefined (a class that has no weight) is NaN, never a number.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coalmine.errors import DataRefused, SpecError
from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Evaluation, Task

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], float]  # weights of the rows -> the metric
Maker = Callable[[Array, Predictions], Statistic]


@dataclass(frozen=True)
class Metric:
    name: str
    higher_is_better: bool
    makers: dict[Task, Maker]


def metric(name: str, task: Task, where: str) -> Metric:
    """
    Raises:
        SpecError: no such metric for `task`; names the nearest. `where` is the key that named it.
    """
    found = _METRICS.get(name)
    if found is None or task not in found.makers:
        known = [each.name for each in _METRICS.values() if task in each.makers]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
        raise SpecError(f"`{where}` names `{name}`, which is no metric of a {task.value} model: {hint}")
    return found


def metrics_of(evaluation: Evaluation, task: Task) -> dict[str, Metric]:
    """Every metric that `evaluation` names, `metrics` first.

    Raises:
        SpecError: an unknown one, with the key that named it.
    """
    named = [(name, "evaluation.metrics") for name in evaluation.metrics]
    named += [(name, "evaluation.bounds") for name in evaluation.bounds]
    named += [(name, "evaluation.against_champion") for name in evaluation.against_champion]
    if evaluation.slices.metric is not None:
        named.append((evaluation.slices.metric, "evaluation.slices.metric"))
    return {name: metric(name, task, where) for name, where in named}


def statistic(metric: Metric, target: Array, predictions: Predictions) -> Statistic:
    """`metric` of `predictions` about rows whose true values are `target`.

    Raises:
        DataRefused: the rows hold a class that the model has never seen.
    """
    if predictions.task is not Task.REGRESSION:
        unseen = np.setdiff1d(target, np.asarray(predictions.classes))
        if len(unseen):
            raise DataRefused(
                f"the test rows hold the class(es) {', '.join(map(str, unseen))}, which the model was not "
                "trained on: raise `split.train_partitions` in model.yaml, or leave them out at the source"
            )
    return metric.makers[predictions.task](target, predictions)


# --- one value per row, averaged -------------------------------------------------------


def _mean(per_row: FloatArray) -> Statistic:
    return lambda weights: float(weights @ per_row / weights.sum())


def _log_loss(target: Array, predictions: Predictions) -> Statistic:
    return _mean(log_loss_per_row(target, predictions))


def log_loss_per_row(target: Array, predictions: Predictions) -> FloatArray:
    given = _probability_of(target, predictions)
    tiny = np.finfo(np.float64).eps  # as scikit-learn clips
    return -np.log(np.clip(given, tiny, 1 - tiny))


def _probability_of(target: Array, predictions: Predictions) -> FloatArray:
    """What each row's true class was given."""
    if predictions.task is Task.BINARY:
        probability: FloatArray = predictions.outputs["probability"]
        return np.where(_positive(target, predictions), probability, 1 - probability)
    probabilities: FloatArray = predictions.outputs["probabilities"]
    return probabilities[np.arange(len(target)), _class_numbers(target, predictions)]


def _brier(target: Array, predictions: Predictions) -> Statistic:
    if predictions.task is Task.BINARY:
        return _mean((predictions.outputs["probability"] - _positive(target, predictions)) ** 2)
    truth = np.eye(len(predictions.classes))[_class_numbers(target, predictions)]
    return _mean(((predictions.outputs["probabilities"] - truth) ** 2).sum(axis=1))


def _accuracy(target: Array, predictions: Predictions) -> Statistic:
    return _mean((predictions.outputs["label"] == target).astype(np.float64))


def _mae(target: Array, predictions: Predictions) -> Statistic:
    return _mean(np.abs(predictions.outputs["prediction"] - target))


def _mse(target: Array, predictions: Predictions) -> Statistic:
    return _mean((predictions.outputs["prediction"] - target) ** 2)


def _rmse(target: Array, predictions: Predictions) -> Statistic:
    mse = _mse(target, predictions)
    return lambda weights: float(np.sqrt(mse(weights)))


def _r2(target: Array, predictions: Predictions) -> Statistic:
    mse = _mse(target, predictions)
    centred = np.asarray(target, dtype=np.float64) - np.mean(target)

    def value(weights: FloatArray) -> float:
        total = weights.sum()
        variance = weights @ centred**2 / total - (weights @ centred / total) ** 2
        return _ratio(variance - mse(weights), variance)

    return value


# --- how well the scores rank ----------------------------------------------------------


@dataclass(frozen=True)
class _Ranking:
    """Rows in the order of their scores, cut into blocks of equal score."""

    order: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]  # in that order
    starts: npt.NDArray[np.int64]  # of the blocks

    def weights(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weight of the positives and of the negatives in each block, lowest score first."""
        ordered = weights[self.order]
        positive = ordered * self.positive
        return np.add.reduceat(positive, self.starts), np.add.reduceat(ordered - positive, self.starts)


def _ranking(positive: npt.NDArray[np.bool_], score: FloatArray) -> _Ranking:
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return _Ranking(order, positive[order], starts)


def _area_under_roc(positive: npt.NDArray[np.bool_], score: FloatArray) -> Statistic:
    """The share of pairs that are ranked rightly, ties counting half (Mann-Whitney)."""
    ranking = _ranking(positive, score)

    def value(weights: FloatArray) -> float:
        positives, negatives = ranking.weights(weights)
        below = np.cumsum(negatives)
        return _ratio(float(positives @ (below - negatives / 2)), float(positives.sum() * below[-1]))

    return value


def _roc_auc(target: Array, predictions: Predictions) -> Statistic:
    """Multiclass: the plain mean over the classes, each against the rest."""
    if predictions.task is Task.BINARY:
        return _area_under_roc(_positive(target, predictions), predictions.outputs["probability"])
    numbers = _class_numbers(target, predictions)
    probabilities = predictions.outputs["probabilities"]
    areas = [_area_under_roc(numbers == k, probabilities[:, k]) for k in range(len(predictions.classes))]
    return lambda weights: float(np.mean([area(weights) for area in areas]))


def _average_precision(target: Array, predictions: Predictions) -> Statistic:
    ranking = _ranking(_positive(target, predictions), predictions.outputs["probability"])

    def value(weights: FloatArray) -> float:
        positives, negatives = ranking.weights(weights)
        found = np.cumsum(positives[::-1])
        called = found + np.cumsum(negatives[::-1])
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return _ratio(float(positives[::-1] @ precision), float(found[-1]))

    return value


# --- counts of labels ------------------------------------------------------------------


def _precision(target: Array, predictions: Predictions) -> Statistic:
    actual, called = _positive(target, predictions), _called_positive(predictions)
    return lambda weights: _ratio(float(weights @ (actual & called)), float(weights @ called))


def _recall(target: Array, predictions: Predictions) -> Statistic:
    actual, called = _positive(target, predictions), _called_positive(predictions)
    return lambda weights: _ratio(float(weights @ (actual & called)), float(weights @ actual))


def _f1_of(actual: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> Statistic:
    hits = actual & called
    return lambda weights: _ratio(2 * float(weights @ hits), float(weights @ actual + weights @ called))


def _f1(target: Array, predictions: Predictions) -> Statistic:
    """Multiclass: the plain mean over the classes."""
    if predictions.task is Task.BINARY:
        return _f1_of(_positive(target, predictions), _called_positive(predictions))
    label = predictions.outputs["label"]
    scores = [_f1_of(target == name, label == name) for name in predictions.classes]
    return lambda weights: float(np.mean([score(weights) for score in scores]))


def _balanced_accuracy(target: Array, predictions: Predictions) -> Statistic:
    right = predictions.outputs["label"] == target
    of_class = [target == name for name in predictions.classes]

    def value(weights: FloatArray) -> float:
        recalls = [_ratio(float(weights @ (right & rows)), float(weights @ rows)) for rows in of_class]
        return float(np.mean(recalls))

    return value


def _positive(target: Array, predictions: Predictions) -> npt.NDArray[np.bool_]:
    return np.asarray(target == predictions.classes[1])


def _called_positive(predictions: Predictions) -> npt.NDArray[np.bool_]:
    return np.asarray(predictions.outputs["label"] == predictions.classes[1])


def _class_numbers(target: Array, predictions: Predictions) -> npt.NDArray[np.int64]:
    """Row by row, where the true class stands in `classes`, which are sorted."""
    return np.searchsorted(np.asarray(predictions.classes), target)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")


def _same(maker: Maker, *tasks: Task) -> dict[Task, Maker]:
    return dict.fromkeys(tasks, maker)


_METRICS = {
    each.name: each
    for each in (
        Metric("roc_auc", True, _same(_roc_auc, Task.BINARY, Task.MULTICLASS)),
        Metric("average_precision", True, _same(_average_precision, Task.BINARY)),
        Metric("log_loss", False, _same(_log_loss, Task.BINARY, Task.MULTICLASS)),
        Metric("brier", False, _same(_brier, Task.BINARY, Task.MULTICLASS)),
        Metric("accuracy", True, _same(_accuracy, Task.BINARY, Task.MULTICLASS)),
        Metric("balanced_accuracy", True, _same(_balanced_accuracy, Task.BINARY, Task.MULTICLASS)),
        Metric("f1", True, _same(_f1, Task.BINARY, Task.MULTICLASS)),
        Metric("precision", True, _same(_precision, Task.BINARY)),
        Metric("recall", True, _same(_recall, Task.BINARY)),
        Metric("mae", False, _same(_mae, Task.REGRESSION)),
        Metric("mse", False, _same(_mse, Task.REGRESSION)),
        Metric("rmse", False, _same(_rmse, Task.REGRESSION)),
        Metric("r2", True, _same(_r2, Task.REGRESSION)),
    )
}
