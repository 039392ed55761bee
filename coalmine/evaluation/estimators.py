"""Estimators as model.yaml writes them: classes by dotted path, with their parameters; functions too.

Only scikit-learn's own classes and those of the repository's `pipelines` are built, and only
functions of `pipelines` and numpy are given to them: a model file names its types and functions to
the server that loads it, and those are what the server has.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeGuard

from sklearn.base import BaseEstimator

from coalmine.errors import SpecError
from coalmine.evaluation.compiled.plan import FUNCTION_PACKAGES
from coalmine.spec import EstimatorSpec, Task

_CLASS_PACKAGES = ("sklearn", "pipelines")


def build(spec: EstimatorSpec, task: Task, tuned: Mapping[str, Any]) -> Any:
    """The estimator, unfitted, with `tuned` in place of the parameters that it names.

    Every `random_state` left out is 0: the same rows must give the same model.

    Raises:
        SpecError: a class or parameter that does not exist, with the nearest that does; or a
            classifier that gives no probabilities.
    """
    estimator = _build({"class": spec.class_path, "params": spec.params}, "estimator")
    set_params(estimator, tuned, "tuned.json")
    unseeded = {
        name: 0
        for name, value in estimator.get_params().items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    estimator.set_params(**unseeded)
    needed = "predict" if task is Task.REGRESSION else "predict_proba"
    if not hasattr(estimator, needed):
        raise SpecError(
            f"`estimator` is {spec.class_path}, which has no `{needed}`, and a {task.value} model needs it. "
            "For a classifier without probabilities, put it into sklearn.calibration.CalibratedClassifierCV"
        )
    return estimator


def set_params(estimator: Any, params: Mapping[str, Any], where: str) -> None:
    """
    Raises:
        SpecError: a parameter that `estimator` does not have, with the nearest that it has.
    """
    known = estimator.get_params()
    for name in params:
        if name not in known:
            raise SpecError(f"`{where}` names the parameter `{name}`: {_nearest(name, known)}")
    estimator.set_params(**params)


def _build(value: Any, where: str) -> Any:
    """`value` with every mapping that has the key `class` or `function` replaced by what it names."""
    if isinstance(value, list):
        return [_build(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "function" in value:
        return _function(value, where)
    if "class" not in value:
        return {key: _build(item, f"{where}.{key}") for key, item in value.items()}
    for key in value:
        if key not in ("class", "params"):
            raise SpecError(
                f"`{where}`: unknown key `{key}` beside `class`: {_nearest(key, ('class', 'params'))}"
            )
    kind = _estimator_class(value["class"], where)
    params = value.get("params") or {}
    if not isinstance(params, dict):
        raise SpecError(f"`{where}.params` must be a mapping of parameters to values")
    known = list(inspect.signature(kind).parameters)
    for name in params:
        if name not in known:
            raise SpecError(
                f"`{where}.params`: {kind.__name__} has no parameter `{name}`: {_nearest(name, known)}"
            )
    try:
        return kind(**{name: _build(item, f"{where}.params.{name}") for name, item in params.items()})
    except (TypeError, ValueError) as error:
        raise SpecError(f"`{where}`: {kind.__name__} refuses its parameters: {error}") from error


def _estimator_class(path: Any, where: str) -> type[BaseEstimator]:
    module_name, _, class_name = str(path).rpartition(".")
    if module_name.partition(".")[0] not in _CLASS_PACKAGES:
        raise SpecError(
            f"`{where}.class` is {path}: only classes below {_below(_CLASS_PACKAGES)} can be used, such as "
            "sklearn.linear_model.LogisticRegression. Your own classes go into a module of pipelines/, which "
            "the model's dvc.yaml then names under `deps`"
        )
    module = _module(module_name, f"`{where}.class` is {path}")
    found = getattr(module, class_name, None)
    if not _is_estimator(found):
        known = [name for name in dir(module) if _is_estimator(getattr(module, name, None))]
        raise SpecError(
            f"`{where}.class` is {path}, and {module_name} has no such estimator: "
            f"{_nearest(class_name, known)}"
        )
    return found


def _function(value: Mapping[str, Any], where: str) -> Callable[..., Any]:
    path = value["function"]
    if len(value) > 1:
        others = ", ".join(f"`{key}`" for key in value if key != "function")
        raise SpecError(f"`{where}`: a function stands alone, and here are {others} beside it")
    module_name, _, name = str(path).rpartition(".")
    if module_name.partition(".")[0] not in FUNCTION_PACKAGES:
        raise SpecError(
            f"`{where}.function` is {path}: only functions below {_below(FUNCTION_PACKAGES)} can be used, "
            "such as numpy.log1p. Your own functions go into pipelines/features.py"
        )
    module = _module(module_name, f"`{where}.function` is {path}")
    found = getattr(module, name, None)
    if not _is_function(found):
        known = [each for each in dir(module) if _is_function(getattr(module, each))]
        raise SpecError(
            f"`{where}.function` is {path}, and {module_name} has no such function: {_nearest(name, known)}"
        )
    return found


def _module(name: str, said: str) -> ModuleType:
    """said: how a refusal begins."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise SpecError(f"{said}: {name} itself cannot be imported: {error}") from error
        parent = importlib.import_module(missing.partition(".")[0])
        known = [f"{parent.__name__}.{each.name}" for each in pkgutil.iter_modules(parent.__path__)]
        raise SpecError(f"{said}: there is no module {missing}: {_nearest(missing, known)}") from error


def _is_estimator(value: Any) -> TypeGuard[type[BaseEstimator]]:
    return isinstance(value, type) and issubclass(value, BaseEstimator)


def _is_function(value: Any) -> TypeGuard[Callable[..., Any]]:
    return callable(value) and not isinstance(value, type)


def _below(packages: Iterable[str]) -> str:
    return " and ".join(f"`{name}.`" for name in packages)


def _nearest(name: str, known: Iterable[str]) -> str:
    names = [each for each in known if not each.startswith("_")]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(names) or 'none'}"
