"""The last step of a scikit-learn model: from features to scores, and from scores to answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from coalmine.evaluation.compiled import encoders, trees
from coalmine.evaluation.compiled.plan import Linear, Link, Magnitude, Trees
from coalmine.evaluation.compiled.registers import Column, NotTranslatable, Registers
from coalmine.evaluation.compiled.trees import Tree

_LINKS = {
    "HalfBinomialLoss": Link.SIGMOID,
    "ExponentialLoss": Link.SIGMOID,
    "HalfMultinomialLoss": Link.SOFTMAX,
    "IdentityLink": Link.IDENTITY,
    "LogLink": Link.EXP,
}


@dataclass(frozen=True)
class LastStep:
    """graph: of the trees, where the scores come from trees."""

    features: tuple[int, ...]
    takes: Magnitude
    scores: Trees | Linear
    link: Link
    graph: bytes | None = None


def last_step(model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    """
    Raises:
        NotTranslatable: a kind of model, or a setting of one, that has no exact translation here.
    """
    translator = _translators().get(type(model))
    if translator is None:
        raise NotTranslatable(f"{type(model).__module__}.{type(model).__qualname__} has no translation")
    if getattr(model, "n_outputs_", 1) != 1:
        raise NotTranslatable("a model with several targets has no translation")
    return translator(model, columns, registers)


@cache
def _translators() -> dict[type, Callable[[Any, Sequence[Column], Registers], LastStep]]:
    """By type itself: a class of a user's own that inherits from one of these may do anything."""
    from sklearn import ensemble, linear_model, tree

    return {
        ensemble.HistGradientBoostingClassifier: _hist_gradient_boosting,
        ensemble.HistGradientBoostingRegressor: _hist_gradient_boosting,
        ensemble.GradientBoostingClassifier: _gradient_boosting,
        ensemble.GradientBoostingRegressor: _gradient_boosting,
        ensemble.RandomForestClassifier: _forest,
        ensemble.RandomForestRegressor: _forest,
        ensemble.ExtraTreesClassifier: _forest,
        ensemble.ExtraTreesRegressor: _forest,
        tree.DecisionTreeClassifier: _tree,
        tree.DecisionTreeRegressor: _tree,
        tree.ExtraTreeClassifier: _tree,
        tree.ExtraTreeRegressor: _tree,
        linear_model.LogisticRegression: _linear_classifier,
        linear_model.SGDClassifier: _linear_classifier,
        linear_model.LinearRegression: _linear_regressor,
        linear_model.Ridge: _linear_regressor,
        linear_model.Lasso: _linear_regressor,
        linear_model.ElasticNet: _linear_regressor,
        linear_model.SGDRegressor: _linear_regressor,
    }


# --- trees -----------------------------------------------------------------------------


def _hist_gradient_boosting(model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    # The names with an underscore are those of scikit-learn's own prediction; nothing public has them.
    through = list(columns)
    if model._preprocessor is not None:
        encoder = model._preprocessor.named_transformers_["encoder"]
        chosen = np.flatnonzero(model.is_categorical_).tolist()
        coded = encoders.ordinal(encoder, [columns[each] for each in chosen], registers)
        through = coded + [column for n, column in enumerate(columns) if n not in chosen]
    features = registers.numbers(through, type(model).__name__)
    found = [
        _binned_tree(predictor, features, target)
        for iteration in model._predictors
        for target, predictor in enumerate(iteration)
    ]
    scores = model.n_trees_per_iteration_
    _add_baseline(found, model._baseline_prediction.ravel(), scores)
    return LastStep(
        features,
        Magnitude.ANY,
        Trees(),
        _link(model),
        trees.sum_of(found, registers.count, scores),
    )


def _binned_tree(predictor: Any, features: Sequence[int], target: int) -> Tree:
    nodes = predictor.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    members = {
        node: _members(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
        for node in np.flatnonzero((nodes["is_categorical"] == 1) & ~is_leaf).tolist()
    }
    # Where no category goes left, only a missing value can, as nothing is less than -inf.
    only_missing = [node for node, found in members.items() if not found]
    threshold = nodes["num_threshold"].copy()
    threshold[only_missing] = -np.inf
    return Tree(
        is_leaf=is_leaf,
        feature=_registers(nodes["feature_idx"], is_leaf, features),
        threshold=threshold,
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        values=nodes["value"].reshape(-1, 1),
        target=target,
        members={node: found for node, found in members.items() if found},
    )


def _members(bitset: Any) -> list[int]:
    """The numbers whose bits are set, from words of 32 bits."""
    return [
        32 * word + bit for word, bits in enumerate(bitset.tolist()) for bit in range(32) if bits >> bit & 1
    ]


def _gradient_boosting(model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if model.init_ != "zero" and type(model.init_) not in (DummyClassifier, DummyRegressor):
        raise NotTranslatable(f"{type(model).__name__} that starts from another model has no translation")
    features = registers.numbers(columns, type(model).__name__)
    found = [
        _learnt_tree(each.tree_, features, each.tree_.value[:, 0] * model.learning_rate, target)
        for iteration in model.estimators_
        for target, each in enumerate(iteration)
    ]
    scores = model.n_trees_per_iteration_
    _add_baseline(found, model._raw_predict_init(np.zeros((1, len(columns))))[0], scores)
    if type(model._loss).__name__ == "ExponentialLoss":
        found = [replace(tree, values=2 * tree.values) for tree in found]
    return LastStep(
        features,
        Magnitude.SINGLE,
        Trees(),
        _link(model),
        trees.sum_of(found, registers.count, scores),
    )


def _forest(model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    return _mean_of([each.tree_ for each in model.estimators_], model, columns, registers)


def _tree(model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    return _mean_of([model.tree_], model, columns, registers)


def _mean_of(learnt: Sequence[Any], model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    features = registers.numbers(columns, type(model).__name__)
    found = [_learnt_tree(each, features, each.value[:, 0]) for each in learnt]
    if hasattr(model, "classes_"):
        scores = Trees(divisor=len(found), each_tree=True)
        return LastStep(
            features, Magnitude.SINGLE, scores, Link.SHARES, trees.each_of(found, registers.count)
        )
    return LastStep(
        features,
        Magnitude.SINGLE,
        Trees(divisor=len(found)),
        Link.IDENTITY,
        trees.sum_of(found, registers.count, 1),
    )


def _learnt_tree(tree: Any, features: Sequence[int], values: Any, target: int = 0) -> Tree:
    is_leaf = tree.children_left == -1
    return Tree(
        is_leaf=is_leaf,
        feature=_registers(tree.feature, is_leaf, features),
        threshold=trees.single_precision_thresholds(tree.threshold),
        left=tree.children_left,
        right=tree.children_right,
        missing_left=tree.missing_go_to_left.astype(bool),
        values=values,
        target=target,
    )


def _registers(feature: Any, is_leaf: Any, features: Sequence[int]) -> Any:
    return np.asarray(features, dtype=np.int64)[np.where(is_leaf, 0, feature)]


def _add_baseline(found: list[Tree], baseline: Any, scores: int) -> None:
    """The first tree of each score says the baseline too, which is where scikit-learn begins."""
    for number in range(scores):
        found[number] = replace(found[number], values=found[number].values + baseline[number])


def _link(model: Any) -> Link:
    loss = model._loss
    name = type(loss if hasattr(model, "classes_") else loss.link).__name__
    if name not in _LINKS:
        raise NotTranslatable(f"{type(model).__name__} with {name} has no translation")
    return _LINKS[name]


# --- linear models ---------------------------------------------------------------------


def _linear_classifier(model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    name = type(model).__name__
    one_vs_rest = name == "SGDClassifier"
    if one_vs_rest and model.loss != "log_loss":
        raise NotTranslatable(f"SGDClassifier with `loss: {model.loss}` has no translation")
    if len(model.classes_) == 2:
        link = Link.SIGMOID
    else:
        link = Link.ONE_VS_REST if one_vs_rest else Link.SOFTMAX
    return _linear(model, columns, registers, link)


def _linear_regressor(model: Any, columns: Sequence[Column], registers: Registers) -> LastStep:
    return _linear(model, columns, registers, Link.IDENTITY)


def _linear(model: Any, columns: Sequence[Column], registers: Registers, link: Link) -> LastStep:
    coefficients = np.atleast_2d(model.coef_)
    intercepts = np.broadcast_to(model.intercept_, len(coefficients))
    return LastStep(
        registers.numbers(columns, type(model).__name__),
        Magnitude.DOUBLE,
        Linear(coefficients=tuple(map(tuple, coefficients.tolist())), intercepts=tuple(intercepts.tolist())),
        link,
    )
