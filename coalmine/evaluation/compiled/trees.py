"""Decision trees as an ONNX graph, in float64 throughout.

The operator is `TreeEnsemble` of ai.onnx.ml 5, the first that compares and adds doubles: a threshold
in single precision sends some rows the other way. One graph holds every tree of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_LESS_OR_EQUAL, _MEMBER = 0, 6  # ai.onnx.ml's numbers of the comparisons
_SUM = 1
_IR_VERSION, _OPSET, _ML_OPSET = 10, 21, 5


@dataclass(frozen=True)
class Tree:
    """One entry per node and field; node 0 is the root. Left is where `x <= threshold`.

    members: the categories that go left, for nodes that ask for a category instead.
    values: what a leaf says, shape (nodes, scores); other nodes' are not read.
    target: the score that it adds to, in a sum.
    """

    is_leaf: npt.NDArray[np.bool_]
    feature: IntArray  # a register
    threshold: FloatArray
    left: IntArray
    right: IntArray
    missing_left: npt.NDArray[np.bool_]
    values: FloatArray
    target: int = 0
    members: Mapping[int, Sequence[int]] = field(default_factory=dict)


def sum_of(trees: Sequence[Tree], registers: int, scores: int) -> bytes:
    """A graph from (rows, registers) to (rows, scores): what the leaves say, added up."""
    weights = np.concatenate([tree.values[tree.is_leaf, 0] for tree in trees])
    targets = np.concatenate([np.full(tree.is_leaf.sum(), tree.target) for tree in trees])
    from onnx import TensorProto, helper

    node = _ensemble(trees, "scores", scores, targets, weights)
    output = helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [None, scores])
    return _model([node], [], registers, output)


def each_of(trees: Sequence[Tree], registers: int) -> bytes:
    """A graph from (rows, registers) to (rows, trees, scores): what each tree's leaf says.

    The ensemble finds the number of the leaf, which is then looked up in a table: a leaf of
    `TreeEnsemble` has one weight, and a class each would ask every tree once per class.
    """
    from onnx import TensorProto, helper, numpy_helper

    table = np.concatenate([tree.values[tree.is_leaf] for tree in trees])
    targets = np.concatenate([np.full(tree.is_leaf.sum(), number) for number, tree in enumerate(trees)])
    nodes = [
        _ensemble(trees, "leaves", len(trees), targets, np.arange(len(table), dtype=np.float64)),
        helper.make_node("Cast", ["leaves"], ["rows"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "rows"], ["shares"], axis=0),
    ]
    output = helper.make_tensor_value_info("shares", TensorProto.DOUBLE, [None, len(trees), table.shape[1]])
    return _model(nodes, [numpy_helper.from_array(table, "table")], registers, output)


def single_precision_thresholds(thresholds: FloatArray) -> FloatArray:
    """The t' for which `x <= t'` in float64 is `float32(x) <= t` for every number.

    scikit-learn's own trees round their input to single precision first. Halfway between two of its
    numbers lies the border; what lies exactly on it is rounded to the even one.
    """
    with np.errstate(over="ignore"):
        below = thresholds.astype(np.float32)
        below = np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)
        above = np.nextafter(below, np.float32(np.inf)).astype(np.float64)
        border = (below.astype(np.float64) + above) / 2
        is_even = (below.view(np.uint32) & 1) == 0
        return np.where(is_even, border, np.nextafter(border, -np.inf))


def _ensemble(trees: Sequence[Tree], output: str, scores: int, targets: IntArray, weights: FloatArray) -> Any:
    from onnx import helper, numpy_helper

    roots: list[int] = []
    parts: list[dict[str, npt.NDArray[Any]]] = []
    members: list[float] = []
    nodes = leaves = 0
    for tree in trees:
        inner, leaf = np.flatnonzero(~tree.is_leaf), np.flatnonzero(tree.is_leaf)
        place = np.empty(len(tree.is_leaf), dtype=np.int64)
        place[inner] = nodes + np.arange(len(inner))
        place[leaf] = leaves + np.arange(len(leaf))
        roots.append(nodes)
        if len(inner) == 0:  # a tree of one leaf: a question with one answer
            inner, left, right = np.zeros(1, dtype=np.int64), leaf, leaf
        else:
            left, right = tree.left[inner], tree.right[inner]
        for each in inner.tolist():
            if each in tree.members:
                members += [*map(float, tree.members[each]), np.nan]
        parts.append(
            {
                "nodes_featureids": np.maximum(tree.feature[inner], 0),
                "nodes_modes": np.where(np.isin(inner, list(tree.members)), _MEMBER, _LESS_OR_EQUAL),
                "nodes_splits": np.where(np.isnan(tree.threshold[inner]), 0.0, tree.threshold[inner]),
                "nodes_truenodeids": place[left],
                "nodes_trueleafs": tree.is_leaf[left],
                "nodes_falsenodeids": place[right],
                "nodes_falseleafs": tree.is_leaf[right],
                "nodes_missing_value_tracks_true": tree.missing_left[inner],
            }
        )
        nodes, leaves = nodes + len(inner), leaves + len(leaf)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    splits, modes = joined.pop("nodes_splits"), joined.pop("nodes_modes")
    attributes: dict[str, Any] = {name: values.astype(np.int64).tolist() for name, values in joined.items()}
    if members:
        attributes["membership_values"] = numpy_helper.from_array(np.array(members), "members")
    return helper.make_node(
        "TreeEnsemble",
        ["registers"],
        [output],
        domain="ai.onnx.ml",
        aggregate_function=_SUM,
        n_targets=scores,
        tree_roots=roots,
        nodes_splits=numpy_helper.from_array(splits.astype(np.float64), "splits"),
        nodes_modes=numpy_helper.from_array(modes.astype(np.uint8), "modes"),
        leaf_targetids=targets.astype(np.int64).tolist(),
        leaf_weights=numpy_helper.from_array(weights.astype(np.float64), "weights"),
        **attributes,
    )


def _model(nodes: Sequence[Any], tables: Sequence[Any], registers: int, output: Any) -> bytes:
    from onnx import TensorProto, helper

    matrix = helper.make_tensor_value_info("registers", TensorProto.DOUBLE, [None, registers])
    graph = helper.make_graph(nodes, "trees", [matrix], [output], initializer=list(tables))
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
