"""A translated model as a server holds it: loaded from its folder, asked by many threads.

Imports neither pandas nor scikit-learn nor scipy. Numbers agree with scikit-learn's to the last few
bits, since sums and exponentials are computed by other code; labels agree.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coalmine.errors import IntegrityError
from coalmine.evaluation.compiled.encoding import Columns, Encoding, FloatArray, UnknownCategory
from coalmine.evaluation.compiled.plan import (
    TREES_FILE,
    Linear,
    Link,
    Magnitude,
    Number,
    Plan,
    Trees,
    read_compiled,
)
from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Task

__all__ = ["CompiledModel", "NotFinite", "UnknownCategory"]

# Beyond the middle between float32's largest number and the next, which it has not, lies infinity.
_LARGEST = {
    Magnitude.ANY: np.inf,
    Magnitude.DOUBLE: float(np.finfo(np.float64).max),
    Magnitude.SINGLE: float(np.nextafter(2.0**128 - 2.0**103, 0.0)),
}
_LARGEST_EXPONENT = 709.0  # exp of more is infinite
_FEW = 64  # rows; each of numpy's calls takes as long as several of them one by one


class NotFinite(Exception):
    """Missing or too large numbers where scikit-learn refuses them. rows: which, from 0."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__(
            f"row {', '.join(map(str, rows[:5]))}{' ...' if len(rows) > 5 else ''}: "
            "a missing or too large number, which the model does not take"
        )
        self.rows = rows


class CompiledModel:
    """width: registers of a row. plain: the columns in their order, all numbers, are the matrix; nothing
    needs encoding."""

    def __init__(self, plan: Plan, trees: bytes | None) -> None:
        """
        Raises:
            IntegrityError: a function that is not here, or trees that do not belong to the plan.
        """
        self.columns = plan.columns
        self.width = plan.registers
        self.plain = _is_plain(plan)
        self._encoding = Encoding(plan)
        self.encode: Callable[[Columns, int], FloatArray] = self._encoding.encode
        self._scores = _scores(plan, trees)
        self._answer = _ANSWERS[plan.task]
        self._link = plan.link
        self._task = plan.task
        self._classes = tuple(plan.classes)
        self._labels = np.array(plan.classes, dtype=plan.classes_dtype or None)
        self._plain_labels = self._labels.tolist()
        self._check = None if plan.takes is Magnitude.ANY and plan.takes_missing else _Check(plan)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """
        folder: `models/<model>/compiled`, verified by the caller.

        Raises:
            IntegrityError: no translated model, or one that cannot run here.
        """
        compiled = read_compiled(folder)
        if compiled.plan is None:
            raise IntegrityError(f"{folder} holds no translated model: {compiled.reason}")
        trees = folder / TREES_FILE
        has_trees = isinstance(compiled.plan.scores, Trees)
        try:
            content = trees.read_bytes() if has_trees else None
        except FileNotFoundError as error:
            raise IntegrityError(f"{trees} does not exist, and its plan needs it: dvc pull") from error
        return cls(compiled.plan, content)

    def predict(self, matrix: FloatArray) -> Predictions:
        """What the model says about rows of `encode`, as coalmine.evaluation.predict names it.

        matrix: (rows, width), any number of rows, C-contiguous.

        Raises:
            NotFinite: as scikit-learn refuses it.
        """
        if self._check is not None:
            self._check(matrix)
        return self._answer(self, self._scores(matrix))

    def answer(self, matrix: FloatArray) -> dict[str, list[Any]]:
        """What `predict` says, as plain values, sooner where the rows are few. Raises as it does."""
        if self._link is not Link.SIGMOID or self._task is not Task.BINARY or len(matrix) > _FEW:
            return {name: values.tolist() for name, values in self.predict(matrix).outputs.items()}
        if self._check is not None:
            self._check(matrix)
        probability = [_sigmoid_of_one(score) for (score,) in self._scores(matrix).tolist()]
        labels = self._plain_labels
        return {"label": [labels[chance > 0.5] for chance in probability], "probability": probability}

    def _regression(self, scores: FloatArray) -> Predictions:
        values = scores[:, 0]
        if self._link is Link.EXP:
            with np.errstate(over="ignore"):
                values = np.exp(values)
        return Predictions(self._task, {"prediction": values}, ())

    def _binary(self, scores: FloatArray) -> Predictions:
        if self._link is not Link.SIGMOID:
            shares = self._probabilities(scores)
            label = self._labels.take(shares.argmax(axis=1))
            return Predictions(self._task, {"label": label, "probability": shares[:, 1]}, self._classes)
        probability = _sigmoid(scores[:, 0])
        label = self._labels.take(probability > 0.5)  # 1 - p < p; a tie is the first class's, as in argmax
        return Predictions(self._task, {"label": label, "probability": probability}, self._classes)

    def _multiclass(self, scores: FloatArray) -> Predictions:
        shares = self._probabilities(scores)
        named = {
            "label": self._labels.take(shares.argmax(axis=1)),
            "probability": shares.max(axis=1),
            "probabilities": shares,
        }
        return Predictions(self._task, named, self._classes)

    def _probabilities(self, scores: FloatArray) -> FloatArray:
        match self._link:
            case Link.SIGMOID:
                positive = _sigmoid(scores[:, 0])
                return np.stack([1 - positive, positive], axis=1)
            case Link.SOFTMAX:
                raised = np.exp(scores - scores.max(axis=1, keepdims=True))
                return np.asarray(raised / raised.sum(axis=1, keepdims=True))
            case Link.ONE_VS_REST:
                each = _sigmoid(scores)
                total = each.sum(axis=1, keepdims=True)
                return np.where(total == 0, 1 / each.shape[1], each / np.where(total == 0, 1, total))
            case _:
                return scores


_ANSWERS: dict[Task, Callable[[CompiledModel, FloatArray], Predictions]] = {
    Task.REGRESSION: CompiledModel._regression,
    Task.BINARY: CompiledModel._binary,
    Task.MULTICLASS: CompiledModel._multiclass,
}


class _Check:
    """Refuses what scikit-learn refuses at the model's last step."""

    def __init__(self, plan: Plan) -> None:
        self._features = np.array(plan.features, dtype=np.intp)
        self._largest = _LARGEST[plan.takes]
        self._takes_missing = plan.takes_missing

    def __call__(self, matrix: FloatArray) -> None:
        """
        Raises:
            NotFinite: a row that is refused.
        """
        # One comparison for nearly every call; it is false for NaN too.
        if np.abs(matrix).max(initial=0.0) <= self._largest:
            return
        features = matrix.take(self._features, axis=1)
        usable = np.abs(features) <= self._largest
        if self._takes_missing:
            usable |= np.isnan(features)
        if not usable.all():
            raise NotFinite(np.flatnonzero(~usable.all(axis=1)).tolist())


def _is_plain(plan: Plan) -> bool:
    everything = list(range(len(plan.columns)))
    reads = [(read.column, read.to) for read in plan.reads if isinstance(read, Number)]
    return (
        plan.registers == len(plan.columns) == len(plan.reads)
        and sorted(reads) == [(each, each) for each in everything]
        and not plan.steps
    )


def _scores(plan: Plan, trees: bytes | None) -> Callable[[FloatArray], FloatArray]:
    """From (rows, registers) to (rows, scores)."""
    match plan.scores:
        case Linear(coefficients=coefficients, intercepts=intercepts):
            return _linear(plan, np.array(coefficients).T.copy(), np.array(intercepts))
        case Trees(divisor=divisor, each_tree=each_tree):
            assert trees is not None
            run = _session(trees)
            if each_tree:
                return lambda matrix: run(matrix).sum(axis=1) / divisor
            if divisor > 1:
                return lambda matrix: run(matrix) / divisor
            return run


def _linear(
    plan: Plan, coefficients: FloatArray, intercepts: FloatArray
) -> Callable[[FloatArray], FloatArray]:
    if plan.features == tuple(range(plan.registers)):
        return lambda matrix: matrix @ coefficients + intercepts
    features = np.array(plan.features, dtype=np.intp)
    return lambda matrix: matrix.take(features, axis=1) @ coefficients + intercepts


def _session(graph: bytes) -> Callable[[FloatArray], FloatArray]:
    # It would tell its makers of every session, and keep an id of this machine. Read when it is imported.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a server has one process per core
    options.log_severity_level = 3  # errors; it writes to stderr by itself, past the server's log
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many types of its own
        raise IntegrityError(f"onnxruntime does not load the model's trees: {error}") from error
    names = [output.name for output in session.get_outputs()]

    def run(matrix: FloatArray) -> npt.NDArray[Any]:
        answers: list[Any] = session.run(names, {"registers": matrix})
        return np.asarray(answers[0])

    return run


def _sigmoid_of_one(score: float) -> float:
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    raised = math.exp(score)
    return raised / (1 + raised)


def _sigmoid(scores: FloatArray) -> FloatArray:
    raised = np.negative(scores)
    np.minimum(raised, _LARGEST_EXPONENT, out=raised)
    np.exp(raised, out=raised)
    raised += 1.0
    return np.divide(1.0, raised, out=raised)
