"""The two models that every server gets, the rows they are asked about, and the requests that ask.

`trees` is gradient-boosted trees on a matrix of numbers; `columns` the same behind a
ColumnTransformer on named columns, texts and missing numbers among them. Rows are drawn with a
fixed seed; the servers' answers are compared with what scikit-learn says here.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from coalmine.evaluation import signature

TRAINED_ON, ASKED_ABOUT = 20_000, 2_000
TREES = 100
NUMBERS = 20  # of `trees`' features

_CARRIERS = ("UA", "AA", "DL", "B6", "EV", "MQ", "US", "WN", "VX", "FL", "AS", "9E", "F9", "HA", "YV", "OO")
_ORIGINS = ("JFK", "LGA", "EWR")
_SKIES = ("clear", "cloudy", "overcast", "rain", "snow", "fog")
_MAKERS = ("Boeing", "Airbus", "Embraer", "Bombardier", "McDonnell")


@dataclass(frozen=True)
class Case:
    """A fitted model and the rows of its requests. `is_matrix`: all its features are numbers."""

    name: str
    title: str
    model: Any
    train: pd.DataFrame
    target: Any
    rows: pd.DataFrame
    is_matrix: bool

    @cached_property
    def expected(self) -> list[float]:
        """The second class's probability of each row."""
        found: list[float] = self.model.predict_proba(self.rows)[:, 1].tolist()
        return found

    def save_for_peers(self, folder: Path) -> None:
        """model.joblib, as the peers load it, and rows with their answers to verify it by.

        Peers take a matrix without names: a model that knows names would warn about every request.
        """
        model = self.model
        if self.is_matrix:
            model = copy.deepcopy(model)
            del model.feature_names_in_
        joblib.dump(model, folder / "model.joblib")


def trees() -> Case:
    random = np.random.default_rng(20)
    numbers = random.normal(size=(TRAINED_ON + ASKED_ABOUT, NUMBERS))
    names = [f"x{number:02d}" for number in range(NUMBERS)]
    noise = random.normal(size=len(numbers))
    frame = pd.DataFrame(numbers, columns=names)
    return _fitted(
        "trees",
        f"{TREES} boosted trees, {NUMBERS} numbers, row-major",
        _boosting(),
        frame,
        numbers[:, :5].sum(axis=1) + numbers[:, 5] * numbers[:, 6] + noise > 0,
        is_matrix=True,
    )


def columns() -> Case:
    random = np.random.default_rng(15)
    rows = TRAINED_ON + ASKED_ABOUT
    frame = pd.DataFrame(
        {
            "carrier": pd.Series(random.choice(_CARRIERS, rows), dtype="str"),
            "maker": pd.Series(random.choice(_MAKERS, rows), dtype="str"),
            "origin": pd.Series(random.choice(_ORIGINS, rows), dtype="str"),
            "sky": pd.Series(random.choice(_SKIES, rows), dtype="str"),
            "distance": random.integers(80, 5000, rows).astype(float),
            "temperature": random.normal(13, 9, rows).round(2),
            "humidity": random.uniform(15, 100, rows).round(2),
            "pressure": random.normal(1013, 8, rows).round(1),
            "wind_speed": random.gamma(3, 3.5, rows).round(2),
            "visibility": random.uniform(0, 10, rows).round(2),
            "plane_age": random.integers(0, 40, rows).astype(float),
            "hour": random.integers(5, 24, rows),
            "month": random.integers(1, 13, rows),
            "weekday": random.integers(0, 7, rows),
            "seats": random.integers(20, 400, rows),
        }
    )
    for name, share in {"temperature": 0.02, "pressure": 0.1, "plane_age": 0.05}.items():
        frame.loc[random.random(rows) < share, name] = np.nan
    late = (
        (frame["hour"] - 12) / 5
        + frame["wind_speed"] / 10
        + frame["sky"].isin(["snow", "fog"])
        + frame["carrier"].isin(["EV", "MQ", "FL"])
        + random.normal(size=rows)
    )
    numbers = ["distance", "temperature", "humidity", "pressure", "wind_speed", "visibility", "plane_age"]
    unseen = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    transformer = ColumnTransformer(
        [
            ("ordinal", unseen, ["carrier", "maker"]),
            ("one hot", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["origin", "sky"]),
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        ],
        remainder="passthrough",
    )
    return _fitted(
        "columns",
        f"ColumnTransformer and {TREES} boosted trees, {frame.shape[1]} named columns",
        Pipeline([("columns", transformer), ("trees", _boosting())]),
        frame,
        late > 3,
        is_matrix=False,
    )


def requests(case: Case, extra: Mapping[str, Any]) -> list[str]:
    """One row a request in the Open Inference Protocol, `extra` (outputs, parameters) added."""
    bodies = []
    frame = signature.model_frame(case.rows, list(case.rows.columns))
    datatypes = {each.name: each.datatype for each in signature.inputs(case.train, list(frame.columns))}
    for record in records(frame):
        if case.is_matrix:
            data = list(record.values())
            inputs = [{"name": "input-0", "shape": [1, len(data)], "datatype": "FP64", "data": data}]
        else:
            inputs = [
                {"name": name, "shape": [1], "datatype": datatypes[name], "data": [value]}
                for name, value in record.items()
            ]
        bodies.append(json.dumps({"inputs": inputs, **extra}))
    return bodies


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """JSON's values: a missing one is None."""
    return [
        {str(name): None if value != value else value for name, value in record.items()}
        for record in frame.to_dict(orient="records")
    ]


def _boosting() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=0)


def _fitted(name: str, title: str, model: Any, frame: pd.DataFrame, target: Any, *, is_matrix: bool) -> Case:
    train, rows = frame[:TRAINED_ON], frame[TRAINED_ON:].reset_index(drop=True)
    truth = np.asarray(target[:TRAINED_ON]).astype(int)
    model.fit(train, truth)
    return Case(name, title, model, train, truth, rows, is_matrix)
