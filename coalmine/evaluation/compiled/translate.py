"""From a fitted scikit-learn model to a plan. Runs at release, beside scikit-learn.

Nothing is fitted or approximated: thresholds, leaves, coefficients and categories are the model's
own. Whether it agrees in fact is measured by whoever asks for the translation (`agreement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coalmine.evaluation.compiled.estimators import last_step
from coalmine.evaluation.compiled.plan import Plan
from coalmine.evaluation.compiled.registers import Column, NotTranslatable, Raw, Registers
from coalmine.evaluation.compiled.transformers import transform
from coalmine.manifest import Tensor
from coalmine.spec import Task


@dataclass(frozen=True)
class Translation:
    """trees: the ONNX graph that the plan speaks of, if it does."""

    plan: Plan
    trees: bytes | None


def translate(model: Any, columns: Sequence[Tensor], task: Task) -> Translation:
    """
    columns: what the model takes, in the order it was fitted to.

    Raises:
        NotTranslatable: the model, one of its steps, or a setting has no exact translation.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.utils import get_tags

    registers = Registers(columns)
    through: list[Column] = [Raw(number) for number in range(len(columns))]
    last = model
    while type(last) is Pipeline:
        for _, step in last.steps[:-1]:
            through = transform(step, through, registers)
        last = last.steps[-1][1]
    found = last_step(last, through, registers)
    classes = getattr(last, "classes_", None)
    plan = Plan(
        task=task,
        columns=tuple(tensor.name for tensor in columns),
        reads=tuple(registers.reads),
        steps=tuple(registers.steps),
        registers=registers.count,
        features=found.features,
        takes=found.takes,
        takes_missing=bool(get_tags(last).input_tags.allow_nan),
        scores=found.scores,
        link=found.link,
        classes=() if classes is None else tuple(classes.tolist()),
        classes_dtype="" if classes is None else str(classes.dtype),
    )
    return Translation(plan, found.graph)


__all__ = ["NotTranslatable", "Translation", "translate"]
