"""The search for better parameters: seeded candidates, each judged on folds of the training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.model_selection import ParameterGrid, ParameterSampler

from coalmine.evaluation.bootstrap import rounded
from coalmine.evaluation.estimators import build, set_params
from coalmine.evaluation.fitting import fit
from coalmine.evaluation.metrics import Metric, metric, statistic
from coalmine.evaluation.predict import predict
from coalmine.evaluation.prepared import SplitRecord
from coalmine.evaluation.signature import model_frame
from coalmine.evaluation.splits import IntArray, folds
from coalmine.evaluation.spread import undivided
from coalmine.spec import ModelSpec, Tuning


def search(train: pd.DataFrame, split: SplitRecord, spec: ModelSpec, tuning: Tuning) -> dict[str, Any]:
    """The best parameters, and everything that was tried, in order.

    The first candidate is the estimator as model.yaml has it, so a search never makes it worse
    by its own measure. Candidates run one after the other, or where `spread` has told joblib to put them.

    Raises:
        SpecError: an unknown metric or parameter.
        DataRefused: too few groups for the folds.
    """
    judged_by = metric(tuning.metric, spec.task, "tuning.metric")
    set_params(
        build(spec.estimator, spec.task, {}),
        {name: values[0] for name, values in tuning.search.items()},
        "tuning.search",
    )
    candidates = [{}, *_candidates(tuning)]
    cuts = folds(train, split.group, split.time, tuning.folds, tuning.seed)
    scores = Parallel()(
        delayed(_score)(spec, params, train, cut, judged_by) for params in candidates for cut in cuts
    )
    by_fold = np.array(scores).reshape(len(candidates), len(cuts))
    means = by_fold.mean(axis=1)
    best = int(np.argmax(means if judged_by.higher_is_better else -means))
    return {
        "params": candidates[best],
        "metric": tuning.metric,
        "score": rounded(means[best]),
        "tried": [
            {"params": params, "score": rounded(mean), "folds": [rounded(score) for score in of_folds]}
            for params, mean, of_folds in zip(candidates, means, by_fold, strict=True)
        ],
    }


def _candidates(tuning: Tuning) -> list[dict[str, Any]]:
    """Drawn without repetition; all of them where the budget covers the grid."""
    size = min(tuning.budget - 1, len(ParameterGrid(tuning.search)))
    drawn = ParameterSampler(tuning.search, n_iter=size, random_state=tuning.seed) if size else []
    return [dict(sorted(params.items())) for params in drawn]


def _score(
    spec: ModelSpec,
    params: dict[str, Any],
    train: pd.DataFrame,
    cut: tuple[IntArray, IntArray],
    judged_by: Metric,
) -> float:
    learn, validate = (train.iloc[rows] for rows in cut)
    with undivided():
        model = fit(spec, params, learn)
        predictions = predict(model, model_frame(validate, spec.features), spec.task)
    return statistic(judged_by, validate[spec.target].to_numpy(), predictions)(np.ones(len(validate)))
