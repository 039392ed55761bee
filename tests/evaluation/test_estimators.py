"""Estimators from YAML: what is built, and what is refused with the nearest name."""

import pytest
import yaml

from coalmine.errors import SpecError
from coalmine.evaluation.estimators import build
from coalmine.spec import EstimatorSpec, Task
from pipelines.features import minute_of_day

NESTED = """
class: sklearn.pipeline.Pipeline
params:
  steps:
    - - columns
      - class: sklearn.compose.ColumnTransformer
        params:
          transformers:
            - - time
              - class: sklearn.preprocessing.FunctionTransformer
                params: {func: {function: pipelines.features.minute_of_day}}
              - [hour, minute]
            - [rest, passthrough, [a]]
    - - forest
      - class: sklearn.ensemble.RandomForestClassifier
        params: {n_estimators: 7}
"""
FUNCTION = "class: sklearn.preprocessing.FunctionTransformer\nparams: {{func: {{function: {}}}}}"


def spec(text: str) -> EstimatorSpec:
    return EstimatorSpec.model_validate(yaml.safe_load(text))


def test_nested_classes_are_built_and_tuned_parameters_take_their_place():
    estimator = build(spec(NESTED), Task.BINARY, {"forest__max_depth": 3})
    params = estimator.get_params()
    assert params["columns__time__func"] is minute_of_day
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
        (FUNCTION.format("os.system"), "only functions below `pipelines.` and `numpy.`"),
        (FUNCTION.format("pipelines.features.minute_of_dy"), "did you mean `minute_of_day`"),
        (FUNCTION.format("pipelines.feature.minute_of_day"), "did you mean `pipelines.features`"),
        (FUNCTION.format("numpy.float64"), "numpy has no such function"),
        (
            FUNCTION.format("numpy.log1p, params: {}"),
            r"`estimator.params.func`: a function stands alone, and here are `params` beside it",
        ),
        ("class: sklearn.svm.LinearSVC", "has no `predict_proba`.*CalibratedClassifierCV"),
    ],
    ids=[
        "elsewhere",
        "class",
        "module",
        "no class",
        "parameter",
        "near parameter",
        "key",
        "function elsewhere",
        "near function",
        "module of a function",
        "class as a function",
        "key beside a function",
        "no probabilities",
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(text, said):
    with pytest.raises(SpecError, match=said):
        build(spec(text), Task.BINARY, {})


def test_tuned_parameter_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="did you mean `forest__max_depth`"):
        build(spec(NESTED), Task.BINARY, {"forest__max_dept": 3})
