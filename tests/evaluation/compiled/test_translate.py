"""A translated model says what scikit-learn says: about every row alone, about all at once, and it
refuses what scikit-learn refuses."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from coalmine.evaluation.compiled.agreement import TOLERANCE, max_difference
from coalmine.evaluation.compiled.model import NotFinite, UnknownCategory
from coalmine.evaluation.compiled.registers import NotTranslatable
from coalmine.evaluation.compiled.trees import single_precision_thresholds
from coalmine.spec import Task
from pipelines.features import minute_of_day
from tests.evaluation.compiled.fitted import Fitted, asked_values, row_of

TEXTS, COUNTS, NUMBERS = ["shop"], ["count"], ["size", "weight"]
UNKNOWN_IS_MINUS_ONE = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
BINARY, MULTICLASS, REGRESSION = Task.BINARY, Task.MULTICLASS, Task.REGRESSION


def ordinal(**params: Any) -> ColumnTransformer:
    encoder = OrdinalEncoder(**(params or UNKNOWN_IS_MINUS_ONE))
    return make_column_transformer((encoder, TEXTS), remainder="passthrough")


def one_hot(**params: Any) -> ColumnTransformer:
    return make_column_transformer((OneHotEncoder(**params), TEXTS + COUNTS), (StandardScaler(), NUMBERS))


def imputed(*then: Any, strategy: str = "median") -> ColumnTransformer:
    return make_column_transformer(
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent", add_indicator=True),
                OneHotEncoder(handle_unknown="ignore"),
            ),
            TEXTS,
        ),
        (make_pipeline(SimpleImputer(strategy=strategy, add_indicator=True), *then), NUMBERS),
        ("drop", COUNTS),
        remainder="passthrough",
    )


HGB = HistGradientBoostingClassifier
SMALL = {"max_iter": 8, "min_samples_leaf": 5}
FEW = {"n_estimators": 7, "random_state": 0}
# name: model, task, whether values are missing
MODELS: dict[str, tuple[Any, Task, bool]] = {
    "boosting, binary": (make_pipeline(ordinal(), HGB(**SMALL)), BINARY, True),
    "boosting, multiclass": (make_pipeline(ordinal(), HGB(**SMALL)), MULTICLASS, True),
    "boosting, two classes called multiclass": (make_pipeline(ordinal(), HGB(**SMALL)), MULTICLASS, False),
    "boosting, categorical splits on texts": (HGB(categorical_features=["shop"], **SMALL), MULTICLASS, True),
    "boosting, categorical splits on codes": (
        make_pipeline(ordinal(), HGB(categorical_features=[0, 3], **SMALL)),
        BINARY,
        True,
    ),
    "boosting, early stopping": (
        make_pipeline(ordinal(), HGB(early_stopping=True, **SMALL)),
        BINARY,
        True,
    ),
    "boosting, not one split": (
        make_pipeline(ordinal(), HGB(max_iter=3, min_samples_leaf=200)),
        BINARY,
        True,
    ),
    **{
        f"boosting, {loss}": (
            make_pipeline(ordinal(), HistGradientBoostingRegressor(loss=loss, quantile=0.8, **SMALL)),
            REGRESSION,
            True,
        )
        for loss in ("squared_error", "absolute_error", "poisson", "gamma", "quantile")
    },
    "older boosting, binary": (make_pipeline(ordinal(), GradientBoostingClassifier(**FEW)), BINARY, False),
    "older boosting, exponential": (
        make_pipeline(ordinal(), GradientBoostingClassifier(loss="exponential", **FEW)),
        BINARY,
        False,
    ),
    "older boosting, multiclass": (
        make_pipeline(ordinal(), GradientBoostingClassifier(init="zero", **FEW)),
        MULTICLASS,
        False,
    ),
    "older boosting, regression": (
        make_pipeline(ordinal(), GradientBoostingRegressor(loss="huber", **FEW)),
        REGRESSION,
        False,
    ),
    "forest, binary": (make_pipeline(ordinal(), RandomForestClassifier(**FEW)), BINARY, False),
    "forest, even, so that classes are level": (
        make_pipeline(ordinal(), RandomForestClassifier(n_estimators=8, max_depth=None, random_state=0)),
        MULTICLASS,
        False,
    ),
    "forest, missing values": (
        make_pipeline(ordinal(), RandomForestClassifier(max_depth=4, **FEW)),
        MULTICLASS,
        True,
    ),
    "forest, regression": (make_pipeline(ordinal(), RandomForestRegressor(**FEW)), REGRESSION, True),
    "extra trees, binary": (make_pipeline(ordinal(), ExtraTreesClassifier(**FEW)), BINARY, False),
    "extra trees, regression": (make_pipeline(ordinal(), ExtraTreesRegressor(**FEW)), REGRESSION, False),
    "tree, multiclass": (make_pipeline(ordinal(), DecisionTreeClassifier(max_depth=4)), MULTICLASS, True),
    "tree, regression": (make_pipeline(ordinal(), DecisionTreeRegressor(max_depth=5)), REGRESSION, True),
    "logistic, binary": (make_pipeline(one_hot(), LogisticRegression()), BINARY, False),
    "logistic, multinomial, unknown ignored": (
        make_pipeline(one_hot(handle_unknown="ignore"), LogisticRegression()),
        MULTICLASS,
        False,
    ),
    "logistic, first category dropped": (
        make_pipeline(one_hot(drop="first", handle_unknown="ignore"), LogisticRegression()),
        BINARY,
        False,
    ),
    "logistic, rare categories together": (
        make_pipeline(
            one_hot(handle_unknown="infrequent_if_exist", min_frequency=21), LogisticRegression(max_iter=300)
        ),
        BINARY,
        False,
    ),
    "logistic, imputed": (make_pipeline(imputed(StandardScaler()), LogisticRegression()), MULTICLASS, True),
    "logistic, missing as a category": (
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), TEXTS), ("passthrough", ["weight"])
            ),
            LogisticRegression(),
        ),
        BINARY,
        True,
    ),
    "stochastic gradient, one against the rest": (
        make_pipeline(one_hot(handle_unknown="ignore"), SGDClassifier(loss="log_loss")),
        MULTICLASS,
        False,
    ),
    "stochastic gradient, regression": (
        make_pipeline(imputed(MinMaxScaler(clip=True), strategy="mean"), SGDRegressor()),
        REGRESSION,
        True,
    ),
    "least squares": (make_pipeline(imputed(RobustScaler()), LinearRegression()), REGRESSION, True),
    "ridge": (make_pipeline(one_hot(drop="if_binary", sparse_output=False), Ridge()), REGRESSION, False),
    "lasso": (make_pipeline(imputed(strategy="constant"), Lasso(alpha=0.01)), REGRESSION, True),
    "elastic net": (
        make_pipeline(ordinal(), StandardScaler(with_mean=False), ElasticNet(alpha=0.01)),
        REGRESSION,
        False,
    ),
    "scaled after one-hot": (
        make_pipeline(
            one_hot(handle_unknown="ignore"), StandardScaler(with_mean=False), LogisticRegression()
        ),
        BINARY,
        False,
    ),
    "functions": (
        make_pipeline(
            make_column_transformer(
                (FunctionTransformer(minute_of_day), ["count", "weight"]),
                (FunctionTransformer(np.arctan), NUMBERS),
                (FunctionTransformer(), ["member"]),
            ),
            HGB(**SMALL),
        ),
        BINARY,
        True,
    ),
    "an encoder after an encoder": (
        make_pipeline(
            make_column_transformer(
                (make_pipeline(OrdinalEncoder(), OneHotEncoder(handle_unknown="ignore")), TEXTS),
                ("passthrough", [1]),
            ),
            LogisticRegression(),
        ),
        BINARY,
        False,
    ),
    "missing codes of an encoder, imputed": (
        make_pipeline(
            ordinal(handle_unknown="use_encoded_value", unknown_value=np.nan),
            SimpleImputer(add_indicator=True),
            MinMaxScaler(),
            SimpleImputer(),
            LogisticRegression(),
        ),
        BINARY,
        True,
    ),
    "an unknown category is refused": (make_pipeline(ordinal(dtype=np.float64), HGB(**SMALL)), BINARY, True),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_it_answers_and_refuses_as_scikit_learn(name, seed):
    model, task, gaps = MODELS[name]
    fitted = Fitted(model, task, seed, gaps=gaps)
    for strangers in (False, True):
        values = asked_values(seed, gaps=gaps, strangers=strangers)
        try:
            expected = quietly(fitted.by_scikit_learn, values)
        except ValueError:
            for row in range(len(values["size"])):
                same_for_one_row(fitted, row_of(values, row))
        else:
            assert difference(expected, fitted.by_translation(values)) <= TOLERANCE
            for row in range(3):
                alone = fitted.by_translation(row_of(values, row))
                assert difference(expected.of(np.array([row])), alone) <= TOLERANCE


def same_for_one_row(fitted: Fitted, values: dict[str, list[Any]]) -> None:
    try:
        expected = quietly(fitted.by_scikit_learn, values)
    except ValueError:
        with pytest.raises((UnknownCategory, NotFinite)):
            fitted.by_translation(values)
    else:
        assert difference(expected, fitted.by_translation(values)) <= TOLERANCE


def difference(expected: Any, found: Any) -> float:
    largest = max_difference(expected, found)
    return math.inf if largest is None else largest


def quietly(ask: Any, values: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of unknown categories
        return ask(values)


@settings(derandomize=True)
@given(threshold=st.floats(width=32, allow_nan=False, allow_infinity=False), step=st.floats(-2, 2))
@example(threshold=0.0, step=0.0)
def test_a_threshold_divides_doubles_where_it_divided_their_single_precision(threshold, step):
    """scikit-learn's trees compare float32(x), and thresholds lie on and between those numbers."""
    with np.errstate(over="ignore"):
        single = np.float32(threshold)
        after = np.nextafter(single, np.float32(np.inf))
        if not np.isfinite(after):
            return
        gap = float(after) - float(single)
        halfway = float(single) + gap / 2
        for border in (float(single), halfway):
            moved = single_precision_thresholds(np.array([border]))[0]
            near = [float(single), float(after), halfway, np.nextafter(halfway, np.inf)]
            for x in [*near, np.nextafter(halfway, -np.inf), float(single) + step * gap]:
                assert (x <= moved) == (float(np.float32(x)) <= border)


class OwnTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    def fit(self, rows: Any, _: Any = None) -> Any:
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, rows: Any) -> Any:
        return np.asarray(rows, dtype=np.float64)


class OwnScaler(StandardScaler):  # type: ignore[misc]
    """It may do anything, whatever it inherits from."""


def twice(rows: Any) -> Any:
    return 2 * rows


NUMERIC = make_column_transformer(("passthrough", ["weight", "count"]))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (make_pipeline(NUMERIC, OwnTransformer(), HGB(**SMALL)), "OwnTransformer has no translation"),
        (make_pipeline(NUMERIC, OwnScaler(), HGB(**SMALL)), "OwnScaler has no translation"),
        (make_pipeline(NUMERIC, PolynomialFeatures(), HGB(**SMALL)), "PolynomialFeatures has no translation"),
        (
            make_pipeline(NUMERIC, FeatureUnion([("a", "passthrough")]), HGB(**SMALL)),
            "FeatureUnion has no translation",
        ),
        (
            make_pipeline(NUMERIC, CalibratedClassifierCV(LogisticRegression())),
            "CalibratedClassifierCV has no translation",
        ),
        (
            make_pipeline(NUMERIC, FunctionTransformer(twice), HGB(**SMALL)),
            "twice is not one of pipelines/ or of numpy",
        ),
        (
            make_pipeline(NUMERIC, StandardScaler(), OneHotEncoder(handle_unknown="ignore"), HGB(**SMALL)),
            "encodes numbers that another step has computed",
        ),
        (
            make_pipeline(NUMERIC, SGDClassifier(loss="modified_huber")),
            "`loss: modified_huber` has no translation",
        ),
        (
            make_pipeline(NUMERIC, GradientBoostingClassifier(n_estimators=2, init=LogisticRegression())),
            "starts from another model",
        ),
        (
            make_pipeline(NUMERIC, SimpleImputer(missing_values=-1), LogisticRegression()),
            "`missing_values: -1` has no translation",
        ),
        (
            make_pipeline(
                ColumnTransformer([("n", "passthrough", NUMBERS)], transformer_weights={"n": 2.0}),
                LogisticRegression(),
            ),
            "`transformer_weights` has no translation",
        ),
    ],
    ids=[
        "a user's transformer",
        "a user's subclass",
        "polynomials",
        "union",
        "calibration",
        "a function elsewhere",
        "an encoder of computed numbers",
        "another loss",
        "another beginning",
        "another mark of missing values",
        "weights",
    ],
)
def test_what_has_no_exact_translation_says_so(model, said):
    if isinstance(model[-1], HGB):  # dense, whatever the steps before it
        for _, step in model.steps:
            if isinstance(step, OneHotEncoder):
                step.set_params(sparse_output=False)
    with pytest.raises(NotTranslatable, match=said):
        Fitted(model, BINARY, 0, gaps=False)
