"""A BentoML service for each of the benchmark's models; MODEL_FILE names the model's file.

BentoML has a protocol of its own: JSON with one entry for each parameter of the method.
"""

import os

import bentoml  # type: ignore[import-not-found]
import joblib
import numpy as np
import pandas as pd


@bentoml.service(workers=1)
class Trees:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL_FILE"])

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: np.ndarray) -> np.ndarray:
        answer: np.ndarray = self.model.predict_proba(rows)
        return answer


@bentoml.service(workers=1)
class Columns:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL_FILE"])

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        answer: np.ndarray = self.model.predict_proba(rows)
        return answer
