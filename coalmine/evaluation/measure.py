"""One model on the test rows: every metric that model.yaml names, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from coalmine.errors import DataRefused
from coalmine.evaluation.bootstrap import Bootstrapped, bootstrap
from coalmine.evaluation.metrics import metrics_of, statistic
from coalmine.evaluation.predictions import Predictions
from coalmine.manifest import Estimate
from coalmine.spec import Evaluation


@dataclass(frozen=True)
class Rows:
    """What models are judged on.

    label: what to call the rows in a sentence, such as the partition, 2013-05
    group: what the bootstrap draws; None for single rows
    slices: column name to its values
    """

    label: str
    target: npt.NDArray[Any]
    group: npt.NDArray[Any] | None
    slices: Mapping[str, npt.NDArray[Any]]


def measure(predictions: Predictions, rows: Rows, evaluation: Evaluation) -> dict[str, Bootstrapped]:
    """
    Raises:
        SpecError: `evaluation` names an unknown metric.
        DataRefused: too few groups, or a class that the model was not trained on.
    """
    metrics = metrics_of(evaluation, predictions.task)
    statistics = {name: statistic(each, rows.target, predictions) for name, each in metrics.items()}
    return bootstrap(statistics, rows.group, len(rows.target), evaluation.resamples, evaluation.seed)


def estimates(measured: Mapping[str, Bootstrapped], rows: Rows, confidence: float) -> dict[str, Estimate]:
    """
    Raises:
        DataRefused: a metric that these rows do not define.
    """
    found = {}
    for name, each in measured.items():
        estimate = each.estimate(confidence)
        if estimate is None:
            raise DataRefused(
                f"{name} is undefined on {rows.label}: the rows, or too many of the draws from them, lack a "
                "class, or the model never names one. Test on more rows (`split` in model.yaml), or choose "
                "another metric"
            )
        found[name] = estimate
    return found
