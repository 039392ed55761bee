"""True labels as they come in, and what a prediction lost by them.

A label is `{"id": <request id>, "label": ...}`: one value, or a list with one for each row of
the request. Losses lie in [0, 1], 0 is perfect, so that gates can bound them:

    binary       Brier score, (p - y)^2
    multiclass   half the Brier score over all classes
    regression   |prediction - y| / (|prediction| + |y|), since no scale is known
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coalmine.serving.http import is_request_id
from coalmine.serving.memory import Scores
from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.spec import Task

MAX_LABELS = 10_000  # of rows, those of all requests together


@dataclass(frozen=True)
class Label:
    """truth: for each row the class's place in the manifest, or the true number."""

    request_id: str
    truth: npt.NDArray[Any]


SCORES = {Task.BINARY: "probability", Task.MULTICLASS: "probabilities", Task.REGRESSION: "prediction"}
"""The output that the loss is taken of."""


class Labels:
    """Reads the labels of one model."""

    def __init__(self, task: Task, classes: Sequence[Any]) -> None:
        self._task = task
        self._place = {each: place for place, each in enumerate(classes)}
        self._types = {bool} if set(map(type, classes)) == {bool} else {str, int, float}

    def parse(self, message: Any) -> list[Label]:
        """
        Raises:
            Refusal: which item is wrong; none of them counts then.
        """
        items = message if isinstance(message, list) else [message]
        count = len(items)
        if count <= MAX_LABELS:
            count = sum(map(_count, items))
        if count > MAX_LABELS:
            raise Refusal(
                FailureKind.TOO_LARGE, f"{count} labels: send at most {MAX_LABELS} in one request", 413
            )
        return [
            self._label(f"item {number}" if items is message else "the body", item)
            for number, item in enumerate(items)
        ]

    def loss(self, answered: Scores, truth: npt.NDArray[Any]) -> float:
        """The mean over the rows of one request: one observation, since its rows are not independent."""
        scores = np.asarray(answered)
        match self._task:
            case Task.BINARY:
                lost = (scores - truth) ** 2  # the positive class is the second, so its place is y
            case Task.MULTICLASS:
                lost = 0.5 * ((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(axis=1)
            case Task.REGRESSION:
                scale = np.abs(scores) + np.abs(truth)
                lost = np.abs(scores - truth) / np.where(scale == 0, 1.0, scale)
        return float(lost.mean())

    def _label(self, where: str, item: Any) -> Label:
        if not isinstance(item, dict) or "id" not in item or "label" not in item:
            raise Refusal(FailureKind.MALFORMED, f'{where} must be {{"id": <request id>, "label": <truth>}}')
        if not is_request_id(item["id"]):
            raise Refusal(FailureKind.MALFORMED, f"{where}: `id` must be the id of an answer")
        values = item["label"] if isinstance(item["label"], list) else [item["label"]]
        if not values:
            raise Refusal(FailureKind.MALFORMED, f"{where}: `label` is empty")
        return Label(item["id"], np.array([self._truth(where, value) for value in values]))

    def _truth(self, where: str, value: Any) -> float | int:
        if self._task is Task.REGRESSION:
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
            raise Refusal(FailureKind.SCHEMA, f"{where}: the label {shown(value)} is not a number")
        # By its type first: true is 1 in Python, but not in JSON.
        if type(value) in self._types and value in self._place:
            return self._place[value]
        known = ", ".join(str(each) for each in self._place)
        raise Refusal(
            FailureKind.SCHEMA, f"{where}: the label {shown(value)} is not one of the classes {known[:200]}"
        )


def _count(item: Any) -> int:
    """The rows that an item tells of, if it is one."""
    label = item.get("label") if isinstance(item, dict) else None
    return len(label) if isinstance(label, list) else 1
