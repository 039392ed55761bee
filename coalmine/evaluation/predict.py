"""What a model says about rows, by the names under which it is served.

The one way from a model to its answers: tuning, evaluation and the model server all come here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Task

# Classifiers whose label is more than the likeliest class.
_OWN_LABELS = {"TunedThresholdClassifierCV", "FixedThresholdClassifier", "SVC", "NuSVC"}


def predict(model: Any, frame: pd.DataFrame, task: Task) -> Predictions:
    """`frame` holds the model's inputs (`signature.model_frame` or `signature.rows`)."""
    if task is Task.REGRESSION:
        return Predictions(task, {"prediction": np.asarray(model.predict(frame), dtype=np.float64)}, ())
    classes = model.classes_
    probabilities = np.asarray(model.predict_proba(frame), dtype=np.float64)
    label = (
        np.asarray(model.predict(frame)) if _has_own_labels(model) else classes[probabilities.argmax(axis=1)]
    )
    if task is Task.BINARY:
        named = {"label": label, "probability": probabilities[:, 1]}
    else:
        named = {"label": label, "probability": probabilities.max(axis=1), "probabilities": probabilities}
    return Predictions(task, named, tuple(classes.tolist()))


def _has_own_labels(model: Any) -> bool:
    """Whether `predict` must be asked as well; it doubles the time of an answer."""
    steps = getattr(model, "steps", None)
    last = model if steps is None else steps[-1][1]
    return type(last).__name__ in _OWN_LABELS
