"""Estimators from YAML: what is built, and what is refused with the nearest name."""

import pytest
import yaml

from coalmine.errors import SpecError
from coalmine.evaluation.estimators import build
from coalmine.spec import EstimatorSpec, Task

NESTED = """
class: sklearn.pipeline.Pipeline
params:
  steps:
    - - columns
      - class: sklearn.compose.ColumnTransformer
        params:
          transformers:
            - [time, {class: pipelines.transformers.MinuteOfDay}, [hour, minute]]
            - [rest, passthrough, [a]]
    - - forest
      - class: sklearn.ensemble.RandomForestClassifier
        params: {n_estimators: 7}
"""


def spec(text: str) -> EstimatorSpec:
    return EstimatorSpec.model_validate(yaml.safe_load(text))


def test_nested_classes_are_built_and_tuned_parameters_take_their_place():
    estimator = build(spec(NESTED), Task.BINARY, {"forest__max_depth": 3})
    params = estimator.get_params()
    assert type(params["columns__time"]).__name__ == "MinuteOfDay"
    assert (params["forest__n_estimators"], params["forest__max_depth"]) == (7, 3)


def test_chance_is_seeded_unless_the_seed_is_given():
    assert build(spec(NESTED), Task.BINARY, {}).get_params()["forest__random_state"] == 0
    assert (
        build(spec(NESTED), Task.BINARY, {"forest__random_state": 5}).get_params()["forest__random_state"]
        == 5
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class: os.system", "only classes below `sklearn.` and `pipelines.`"),
        ("class: sklearn.linear_model.LogisticRegresion", "did you mean `LogisticRegression`"),
        ("class: sklearn.linear_modell.LogisticRegression", "did you mean `sklearn.linear_model`"),
        ("class: sklearn.pipeline.make_pipeline", "has no such estimator"),
        ("class: sklearn.linear_model.LogisticRegression\nparams: {c: 1}", "no parameter `c`"),
        ("class: sklearn.linear_model.LogisticRegression\nparams: {max_itr: 1}", "did you mean `max_iter`"),
        (
            "class: sklearn.pipeline.Pipeline\nparams: {steps: [[a, {class: sklearn.svm.SVC, param: {}}]]}",
            r"`estimator.params.steps\[0\]\[1\]`: unknown key `param` beside `class`: did you mean `params`",
        ),
        ("class: sklearn.svm.LinearSVC", "has no `predict_proba`.*CalibratedClassifierCV"),
    ],
    ids=[
        "elsewhere",
        "class",
        "module",
        "function",
        "parameter",
        "near parameter",
        "key",
        "no probabilities",
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(text, said):
    with pytest.raises(SpecError, match=said):
        build(spec(text), Task.BINARY, {})


def test_tuned_parameter_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="did you mean `forest__max_depth`"):
        build(spec(NESTED), Task.BINARY, {"forest__max_dept": 3})
