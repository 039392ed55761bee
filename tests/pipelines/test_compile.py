"""The folder of the translated model: always there, with its reason, and to the byte the same."""

from __future__ import annotations

import pytest

from coalmine.evaluation.compiled.model import CompiledModel
from coalmine.evaluation.compiled.plan import read_compiled
from coalmine.evaluation.prepared import read_test
from pipelines.compile import compile_stage
from pipelines.prepare import prepare
from pipelines.train import train
from pipelines.tune import tune


@pytest.fixture
def trained(workshop):
    prepare(workshop.top, "buyers")
    tune(workshop.top, "buyers")
    train(workshop.top, "buyers")
    return workshop


def files(workshop):
    return {path.name: path.read_bytes() for path in (workshop.model / "compiled").iterdir()}


def test_the_translation_is_compared_on_every_test_row_and_answers(trained):
    compile_stage(trained.top, "buyers")
    rows = len(read_test(trained.model / "prepared"))
    compiled = read_compiled(trained.model / "compiled")
    assert (compiled.kind, compiled.rows) == ("compiled", rows)
    model = CompiledModel.load(trained.model / "compiled")
    assert model.plain
    said = model.predict(model.encode({"minutes": [None, 40.0], "pages": [3, 3]}, 2))
    assert said.outputs["label"].tolist() == [0, 1]


def test_the_same_model_is_translated_to_the_same_bytes(trained):
    compile_stage(trained.top, "buyers")
    first = files(trained)
    compile_stage(trained.top, "buyers")
    assert files(trained) == first
    assert set(first) == {"plan.json", "trees.onnx"}


def test_a_model_without_a_translation_leaves_its_reason_and_no_older_trees(trained):
    compile_stage(trained.top, "buyers")
    trained.write_model(
        features=["pages"], estimator={"class": "sklearn.naive_bayes.GaussianNB", "params": {}}
    )
    train(trained.top, "buyers")
    compile_stage(trained.top, "buyers")
    assert set(files(trained)) == {"plan.json"}
    compiled = read_compiled(trained.model / "compiled")
    assert compiled.kind == "scikit-learn"
    assert "GaussianNB has no translation" in compiled.reason
