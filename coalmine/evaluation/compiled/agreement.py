"""Whether a translation answers as scikit-learn does, on rows that were not learnt from.

The translation is used only where it does: `compile_model` decides, at release, once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from coalmine.evaluation import signature
from coalmine.evaluation.compiled.model import CompiledModel
from coalmine.evaluation.compiled.plan import Compiled
from coalmine.evaluation.compiled.registers import NotTranslatable
from coalmine.evaluation.compiled.translate import Translation, translate
from coalmine.evaluation.predictions import Predictions
from coalmine.evaluation.scoring import score
from coalmine.manifest import Tensor
from coalmine.spec import Task

# Far above what another order of sums changes (1e-15), far below what anybody acts upon. Absolute.
TOLERANCE = 1e-9
_SINGLE_ROWS = 200  # that go through the code for one row as well


def compile_model(
    model: Any, test: pd.DataFrame, columns: Sequence[Tensor], task: Task
) -> tuple[Compiled, bytes | None]:
    """What plan.json says of `model`, and its trees.

    test: dataset rows; columns: what the model takes, in its order.

    A model that has no translation is no error, and neither is a translation that fails: a function
    of a user's own may do anything. scikit-learn answers then.
    """
    try:
        translation = translate(model, columns, task)
    except NotTranslatable as refused:
        return _scikit_learn(str(refused)), None
    except Exception as error:
        return _scikit_learn(f"the translation failed: {type(error).__name__}: {error}"), None
    expected = score(model, test, [column.name for column in columns], task)
    try:
        found = _answers(translation, test, columns)
    except Exception as error:
        return _scikit_learn(f"the translated model failed: {type(error).__name__}: {error}"), None
    difference = max_difference(expected, found)
    if difference is None or not difference <= TOLERANCE:
        by = "in its labels" if difference is None else f"by up to {difference:.3g}"
        return _scikit_learn(
            f"the translated model differs from scikit-learn {by} on {len(test):,} test rows"
        ), None
    compiled = Compiled(
        kind="compiled",
        reason=f"agrees with scikit-learn on all {len(test):,} test rows",
        tolerance=TOLERANCE,
        max_difference=_rounded_up(difference),
        rows=len(test),
        plan=translation.plan,
    )
    return compiled, translation.trees


def max_difference(expected: Predictions, found: Predictions) -> float | None:
    """Between numbers of the same name and row; NaN where one is no number. None: labels differ."""
    if expected.classes != found.classes or expected.outputs.keys() != found.outputs.keys():
        return None
    largest = 0.0
    for name, values in expected.outputs.items():
        others = found.outputs[name]
        if values.shape != others.shape or values.dtype != others.dtype:
            return None
        if name == "label":
            if not np.array_equal(values, others):
                return None
        else:
            # Not `max`, to which NaN is no more than any number.
            largest = float(np.maximum(largest, np.abs(values - others).max(initial=0.0)))
    return largest


def _answers(translation: Translation, test: pd.DataFrame, columns: Sequence[Tensor]) -> Predictions:
    """As a server asks: from plain values, many rows at once, and some of them alone."""
    # By way of text, since that is what a server reads.
    plan = type(translation.plan).model_validate_json(translation.plan.model_dump_json())
    compiled = CompiledModel(plan, translation.trees)
    values = plain_values(test, columns)
    matrix = compiled.encode(values, len(test))
    for row in range(min(_SINGLE_ROWS, len(test))):
        alone = compiled.encode({name: [each[row]] for name, each in values.items()}, 1)
        if not np.array_equal(alone[0], matrix[row], equal_nan=True):
            raise NotTranslatable("a row alone is encoded in another way than among others")
    return compiled.predict(matrix)


def plain_values(test: pd.DataFrame, columns: Sequence[Tensor]) -> dict[str, list[Any]]:
    """The columns of dataset rows as a request brings them; missing is None."""
    frame = signature.model_frame(test, [column.name for column in columns])
    return {
        name: [
            None if missing else value
            for value, missing in zip(frame[name].tolist(), frame[name].isna(), strict=True)
        ]
        for name in frame.columns
    }


def _rounded_up(difference: float) -> float:
    """To a power of ten: the last bits differ between processors, and plan.json should not."""
    return 0.0 if difference == 0 else float(f"1e{math.ceil(math.log10(difference))}")


def _scikit_learn(reason: str) -> Compiled:
    return Compiled(kind="scikit-learn", reason=reason)
