"""Transformers of our own, for use in model.yaml by dotted path: `pipelines.transformers.<Class>`.

A release carries this file to the server beside the model. Keep the names of classes and
attributes: models that were released with them are loaded by these names. What a class learns
in `fit` must be numbers, texts, arrays, lists or dictionaries, so that it can be saved.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin


class MinuteOfDay(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Hour (first column) and minute (second) as one number, the minutes since midnight.

    A tree finds "leaves after 17:45" with one cut here, where hour and minute by themselves take
    three; and delays build up through the day, not through the hour.
    """

    def fit(self, rows: pd.DataFrame, target: Any = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        hour, minute = np.asarray(rows, dtype=np.float64).T
        return np.column_stack([60 * hour + minute])

    def get_feature_names_out(self, names: Any = None) -> npt.NDArray[np.object_]:  # noqa: ARG002
        return np.array(["minute_of_day"], dtype=object)
