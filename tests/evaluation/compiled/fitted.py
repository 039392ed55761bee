"""Rows to learn from and rows to ask about, for models of every kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from coalmine.evaluation import signature
from coalmine.evaluation.compiled.model import CompiledModel
from coalmine.evaluation.compiled.plan import Plan
from coalmine.evaluation.compiled.translate import translate
from coalmine.evaluation.predict import predict
from coalmine.evaluation.predictions import Predictions
from coalmine.spec import Task

ROWS = 240
ALL = ("size", "weight", "count", "shop", "member")


def learnt_rows(seed: int, *, gaps: bool) -> pd.DataFrame:
    """Two numbers on a grid, so that what lies between is a threshold; a count, a text, a yes or no."""
    chance = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "size": chance.integers(-8, 9, ROWS) / 4,
            "weight": chance.normal(0, 1, ROWS).round(1),
            "count": chance.integers(0, 12, ROWS),
            "shop": pd.Series(chance.choice(["north", "south", "east", "west", "a"], ROWS), dtype="str"),
            "member": chance.random(ROWS) < 0.5,
        }
    )
    if gaps:
        rows.loc[chance.random(ROWS) < 0.15, "size"] = np.nan
        rows.loc[chance.random(ROWS) < 0.15, "shop"] = np.nan
    return rows


def target_of(rows: pd.DataFrame, task: Task, seed: int) -> Any:
    noise = np.random.default_rng(seed + 1).normal(0, 1, ROWS)
    score = rows["size"].fillna(0.5) + rows["weight"] + (rows["shop"] == "north") + noise
    match task:
        case Task.BINARY:
            return np.where(score > 0.3, "yes", "no").astype(object)
        case Task.MULTICLASS:
            return np.digitize(score, [-0.7, 0.9])
        case Task.REGRESSION:
            return np.exp(score / 3).to_numpy()


def asked_values(seed: int, *, gaps: bool, strangers: bool, count: int = 40) -> dict[str, list[Any]]:
    """As a request brings them: on thresholds, missing, never seen."""
    chance = np.random.default_rng(seed + 2)
    sizes = [*(np.arange(-18, 19) / 8).tolist(), 1e3, -1e3, 1e-300]
    shops = ["north", "south", "east", "west", "a", *(["", "überall", "North"] if strangers else [])]
    values: dict[str, list[Any]] = {
        "size": chance.choice(sizes, count).tolist(),
        "weight": (chance.integers(-40, 41, count) / 20).tolist(),
        "count": chance.integers(0, 15 if strangers else 12, count).tolist(),
        "shop": chance.choice(shops, count).tolist(),
        "member": (chance.random(count) < 0.5).tolist(),
    }
    if gaps:
        for name in ("size", "shop"):
            values[name] = [None if chance.random() < 0.2 else value for value in values[name]]
    return values


class Fitted:
    """One model twice: as scikit-learn has it, and translated, by way of the text that is released."""

    def __init__(
        self, model: Any, task: Task, seed: int, *, gaps: bool, columns: Sequence[str] = ALL
    ) -> None:
        rows = learnt_rows(seed, gaps=gaps)
        self.task, self.columns = task, signature.inputs(rows, columns)
        with threadpool_limits(1):  # as in training; and threads that wait for each other take seconds
            frame = signature.model_frame(rows, columns)
            self.model = model.fit(frame, target_of(rows, task, seed))
        translation = translate(self.model, self.columns, task)
        plan = Plan.model_validate_json(translation.plan.model_dump_json())
        assert plan == translation.plan or "NaN" in translation.plan.model_dump_json()
        self.compiled = CompiledModel(plan, translation.trees)

    def by_scikit_learn(self, values: Mapping[str, list[Any]]) -> Predictions:
        with threadpool_limits(1):
            return predict(self.model, signature.rows(self.columns, values), self.task)

    def by_translation(self, values: Mapping[str, list[Any]]) -> Predictions:
        return self.compiled.predict(self.compiled.encode(values, len(next(iter(values.values())))))


def row_of(values: Mapping[str, list[Any]], row: int) -> dict[str, list[Any]]:
    return {name: [each[row]] for name, each in values.items()}
