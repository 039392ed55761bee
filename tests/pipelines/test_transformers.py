"""Transformers of our own do what their comments say, inside scikit-learn's machinery."""

import numpy as np
import pandas as pd
from sklearn.base import clone

from pipelines.transformers import MinuteOfDay


def test_hour_and_minute_are_one_number():
    rows = pd.DataFrame({"hour": [0, 17], "minute": [5, 45]})
    transformer = clone(MinuteOfDay()).fit(rows)
    assert np.array_equal(transformer.transform(rows), [[5.0], [1065.0]])
    assert transformer.get_feature_names_out().tolist() == ["minute_of_day"]
