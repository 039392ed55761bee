"""Functions of our own do what their comments say, inside scikit-learn's machinery and without it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from pipelines.features import minute_of_day

ROWS = {"hour": [0, 17], "minute": [5, 45]}


@pytest.mark.parametrize(
    "rows", [pd.DataFrame(ROWS), np.array([[0.0, 5.0], [17.0, 45.0]])], ids=["in training", "in a server"]
)
def test_hour_and_minute_are_one_number(rows):
    transformer = clone(FunctionTransformer(minute_of_day)).fit(rows)
    assert np.array_equal(transformer.transform(rows), [[5.0], [1065.0]])
