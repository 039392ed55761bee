"""A translated model in a server: what it needs, what it refuses, who may ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from coalmine.errors import IntegrityError
from coalmine.evaluation.compiled.model import CompiledModel, NotFinite, UnknownCategory
from coalmine.evaluation.compiled.plan import Compiled, Function, Plan, Trees, write_compiled
from coalmine.evaluation.compiled.translate import translate
from coalmine.evaluation.predict import predict
from coalmine.manifest import Tensor
from coalmine.spec import Task
from pipelines.features import minute_of_day
from tests.evaluation.compiled.fitted import Fitted, asked_values, row_of

BOOSTING = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5)
NUMBERS = make_column_transformer(("passthrough", ["size", "weight"]))
FLIGHTS = make_column_transformer(
    (OrdinalEncoder(), ["shop"]),
    (FunctionTransformer(minute_of_day), ["count", "weight"]),
    remainder="passthrough",
)


def write(folder: Path, fitted: Fitted, **changes: Any) -> Path:
    folder.mkdir()
    translation = translate(fitted.model, fitted.columns, fitted.task)
    plan = translation.plan.model_copy(update=changes)
    write_compiled(folder, Compiled(kind="compiled", reason="", plan=plan), translation.trees)
    return folder


ANSWER = """
import json, sys
for name in ("pandas", "sklearn", "scipy", "onnx", "skops"):
    sys.modules[name] = None  # to import it fails
from pathlib import Path
from coalmine.evaluation.compiled.model import CompiledModel
model = CompiledModel.load(Path(sys.argv[1]))
said = model.predict(model.encode(json.loads(sys.argv[2]), 3))
print(json.dumps({name: values.tolist() for name, values in said.outputs.items()}))
"""


def test_it_loads_and_answers_where_neither_pandas_nor_scikit_learn_nor_scipy_is(tmp_path):
    fitted = Fitted(make_pipeline(FLIGHTS, BOOSTING), Task.BINARY, 0, gaps=False)
    values = asked_values(0, gaps=False, strangers=False, count=3)
    ran = subprocess.run(
        [sys.executable, "-c", ANSWER, str(write(tmp_path / "compiled", fitted)), json.dumps(values)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said, expected = json.loads(ran.stdout), fitted.by_scikit_learn(values).outputs
    assert said["label"] == expected["label"].tolist()
    assert said["probability"] == pytest.approx(expected["probability"].tolist(), abs=1e-12)


def test_equal_models_give_equal_bytes(tmp_path):
    fitted = [Fitted(make_pipeline(FLIGHTS, BOOSTING), Task.BINARY, 0, gaps=True) for _ in range(2)]
    first, second = (write(tmp_path / str(n), each) for n, each in enumerate(fitted))
    assert sorted(path.name for path in first.iterdir()) == ["plan.json", "trees.onnx"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


@pytest.mark.parametrize(
    ("model", "columns", "plain"),
    [
        (BOOSTING, ["size", "weight", "count", "member"], True),
        (BOOSTING, ["size", "weight", "count", "shop"], False),
    ],
    ids=["all numbers", "a text"],
)
def test_columns_that_are_the_matrix_need_no_encoding(model, columns, plain):
    """`plain` tells a server to make the matrix itself, in the order of the columns."""
    if "shop" in columns:
        model = make_pipeline(make_column_transformer((OrdinalEncoder(), ["shop"])), model)
    else:
        model = make_pipeline(FunctionTransformer(), model)
    fitted = Fitted(model, Task.BINARY, 0, gaps=False, columns=columns)
    assert (fitted.compiled.plain, fitted.compiled.columns) == (plain, tuple(columns))
    if plain:
        values = asked_values(0, gaps=False, strangers=False)
        matrix = np.array([values[name] for name in columns], dtype=np.float64).T
        assert np.array_equal(matrix, fitted.compiled.encode(values, len(matrix)))


def test_a_columns_order_in_the_matrix_is_its_own_unless_all_are_in_place():
    swapped = make_pipeline(make_column_transformer(("passthrough", ["weight", "size"])), BOOSTING)
    fitted = Fitted(swapped, Task.BINARY, 0, gaps=False, columns=["size", "weight"])
    assert not fitted.compiled.plain


@pytest.mark.parametrize(
    ("value", "said"), [("elsewhere", "elsewhere"), (None, None)], ids=["never seen", "missing"]
)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("encoder", [OrdinalEncoder, OneHotEncoder])
def test_an_unknown_category_is_refused_by_column_and_value(encoder, rows, value, said):
    model = make_pipeline(make_column_transformer((encoder(), ["shop"])), LogisticRegression())
    fitted = Fitted(model, Task.BINARY, 0, gaps=False, columns=["shop"])
    with pytest.raises(UnknownCategory) as refused:
        fitted.compiled.encode({"shop": ["north"] * (rows - 1) + [value]}, rows)
    assert (refused.value.column, refused.value.value) == ("shop", said)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # scikit-learn's
@pytest.mark.parametrize(
    ("last", "task", "size", "refused"),
    [
        (LogisticRegression(), Task.BINARY, None, True),
        (LogisticRegression(), Task.BINARY, np.inf, True),
        (LogisticRegression(), Task.BINARY, 1e300, False),
        (GradientBoostingRegressor(n_estimators=2), Task.REGRESSION, None, True),
        (RandomForestClassifier(n_estimators=3), Task.BINARY, None, False),
        (RandomForestClassifier(n_estimators=3), Task.BINARY, -np.inf, True),
        (RandomForestClassifier(n_estimators=3), Task.BINARY, 3.5e38, True),
        (RandomForestClassifier(n_estimators=3), Task.BINARY, 3.4e38, False),
        (BOOSTING, Task.BINARY, None, False),
        (BOOSTING, Task.BINARY, np.inf, False),
    ],
    ids=[
        "linear, missing",
        "linear, infinite",
        "linear, large",
        "older boosting, missing",
        "forest, missing",
        "forest, infinite",
        "forest, too large for single precision",
        "forest, large",
        "boosting, missing",
        "boosting, infinite",
    ],
)
def test_numbers_are_refused_where_scikit_learn_refuses_them(last, task, size, refused):
    fitted = Fitted(make_pipeline(NUMBERS, last), task, 0, gaps=False, columns=["size", "weight"])
    values = {"size": [1.0, size], "weight": [0.5, 0.5]}
    if refused:
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            fitted.by_scikit_learn(values)
        with pytest.raises(NotFinite, match="row 1: ") as found:
            fitted.compiled.predict(fitted.compiled.encode(values, 2))
        assert found.value.rows == [1]
    else:
        assert fitted.by_translation(values).outputs.keys() == fitted.by_scikit_learn(values).outputs.keys()


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("last", [BOOSTING, RandomForestClassifier(n_estimators=2, bootstrap=False)])
def test_a_tie_goes_to_the_class_that_scikit_learn_gives_it_to(last, rows):
    model = last.fit(pd.DataFrame({"size": [1.0] * 40}), np.array(["no", "yes"] * 20, dtype=object))
    columns = (Tensor(name="size", datatype="FP64"),)
    translation = translate(model, columns, Task.BINARY)
    compiled = CompiledModel(translation.plan, translation.trees)
    said = compiled.predict(np.ones((rows, 1)))
    assert said.outputs["probability"].tolist() == [0.5] * rows
    expected = predict(model, pd.DataFrame({"size": [1.0] * rows}), Task.BINARY)
    assert said.outputs["label"].tolist() == expected.outputs["label"].tolist() == ["no"] * rows
    assert compiled.answer(np.ones((rows, 1)))["label"] == ["no"] * rows


@pytest.mark.parametrize("rows", [1, 7, 64, 65])
def test_a_few_rows_are_answered_as_many_are(rows):
    fitted = Fitted(make_pipeline(NUMBERS, BOOSTING), Task.BINARY, 0, gaps=False)
    random = np.random.default_rng(rows)
    values = {"size": random.normal(size=rows).tolist(), "weight": random.normal(size=rows).tolist()}
    matrix = fitted.compiled.encode(values, rows)
    answer, said = fitted.compiled.answer(matrix), fitted.compiled.predict(matrix).outputs
    assert answer["label"] == said["label"].tolist()
    assert answer["probability"] == pytest.approx(said["probability"].tolist(), abs=1e-15)


def test_no_rows_give_no_answers():
    fitted = Fitted(make_pipeline(NUMBERS, LogisticRegression()), Task.BINARY, 0, gaps=False)
    said = fitted.compiled.predict(fitted.compiled.encode({"size": [], "weight": []}, 0))
    assert {name: len(values) for name, values in said.outputs.items()} == {"label": 0, "probability": 0}


def test_threads_that_ask_at_once_get_their_own_answers():
    fitted = Fitted(make_pipeline(FLIGHTS, BOOSTING), Task.MULTICLASS, 0, gaps=False)
    values = asked_values(0, gaps=False, strangers=False, count=60)
    expected = fitted.by_translation(values).outputs["probabilities"]

    def ask(row: int) -> bool:
        said = fitted.by_translation(row_of(values, row % 60)).outputs["probabilities"]
        return np.array_equal(said[0], expected[row % 60])

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(1200)))


def test_extreme_scores_are_probabilities_still():
    """scipy's expit neither warns nor overflows, and neither must this."""
    columns = ["size", "weight"]
    model = make_pipeline(NUMBERS, LogisticRegression(C=1e6))
    fitted = Fitted(model, Task.BINARY, 0, gaps=False, columns=columns)
    values = {"size": [1e6, -1e6, 0.0], "weight": [0.0, 0.0, 0.0]}
    probability = fitted.by_translation(values).outputs["probability"]
    assert probability == pytest.approx([1, 0, probability[2]], abs=1e-300)
    for row in range(3):
        assert fitted.by_translation(row_of(values, row)).outputs["probability"] == pytest.approx(
            [probability[row]], abs=1e-15
        )


def broken(folder: Path, what: str) -> None:
    plan = folder / "plan.json"
    match what:
        case "no plan":
            plan.unlink()
        case "no trees":
            (folder / "trees.onnx").unlink()
        case "other bytes":
            (folder / "trees.onnx").write_bytes(b"not a graph")
        case "edited":
            plan.write_text(plan.read_text().replace('"reads"', '"read"'))
        case "scikit-learn":
            plan.write_text(Compiled(kind="scikit-learn", reason="a reason").model_dump_json())


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no plan", "plan.json does not exist"),
        ("no trees", "trees.onnx does not exist"),
        ("other bytes", "onnxruntime does not load"),
        ("edited", "not a translated model that this coalmine reads"),
        ("scikit-learn", "holds no translated model: a reason"),
    ],
)
def test_what_is_no_translated_model_is_not_loaded(tmp_path, what, said):
    fitted = Fitted(make_pipeline(NUMBERS, BOOSTING), Task.BINARY, 0, gaps=False, columns=["size", "weight"])
    folder = write(tmp_path / "compiled", fitted)
    broken(folder, what)
    with pytest.raises(IntegrityError, match=said):
        CompiledModel.load(folder)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("os.system", "only those of pipelines/ and numpy are called"),
        ("pipelines.features.gone", "which is not here"),
        ("pipelines.gone.minute_of_day", "which is not here"),
    ],
)
def test_a_function_that_is_not_ours_or_not_here_is_not_called(path, said):
    plan = Plan(
        task=Task.REGRESSION,
        columns=("a",),
        reads=(),
        steps=(Function(inputs=(), start=0, width=1, path=path),),
        registers=1,
        features=(0,),
        takes="any",
        takes_missing=True,
        scores=Trees(),
        link="identity",
    )
    with pytest.raises(IntegrityError, match=said):
        CompiledModel(plan, b"")
