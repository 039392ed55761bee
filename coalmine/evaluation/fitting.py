"""Fitting an estimator, the same way in tuning and in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from coalmine.errors import SpecError
from coalmine.evaluation.estimators import build
from coalmine.evaluation.signature import model_frame
from coalmine.spec import ModelSpec


def fit(spec: ModelSpec, tuned: Mapping[str, Any], train: pd.DataFrame) -> Any:
    """A model that has learnt from the dataset rows `train`.

    One thread: sums in another order end in other digits, and some estimators store how many
    threads they had, so that the file would differ between machines.

    Raises:
        SpecError: an unknown class or parameter, or data that the estimator does not take.
    """
    estimator = build(spec.estimator, spec.task, tuned)
    try:
        with threadpool_limits(1):
            return estimator.fit(model_frame(train, spec.features), train[spec.target].to_numpy())
    except (ValueError, TypeError) as error:
        raise SpecError(
            f"models/{spec.name}/model.yaml: the estimator cannot be fitted to data/{spec.dataset}: {error}"
        ) from error


def is_divided(spec: ModelSpec, tuned: Mapping[str, Any]) -> bool:
    """Whether the estimator fits parts of itself side by side, as model.yaml asks it to by `n_jobs`.

    Raises:
        SpecError: an unknown class or parameter.
    """
    params = build(spec.estimator, spec.task, tuned).get_params()
    asked = [value for name, value in params.items() if name.rpartition("__")[2] == "n_jobs"]
    return any(value not in (None, 1) for value in asked)
