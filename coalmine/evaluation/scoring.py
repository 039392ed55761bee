"""From a model's files to its predictions about the test rows, and to what a release says of it.

Used by `evaluate` and by the release decision, for challenger and champion alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from coalmine.errors import SpecError
from coalmine.evaluation import signature
from coalmine.evaluation.measure import Rows
from coalmine.evaluation.predict import predict
from coalmine.evaluation.predictions import Predictions
from coalmine.evaluation.prepared import SplitRecord
from coalmine.manifest import Example, Tensor
from coalmine.spec import Evaluation, Task


def score(model: Any, test: pd.DataFrame, features: Sequence[str], task: Task) -> Predictions:
    """What `model` says about dataset rows."""
    with threadpool_limits(1):  # sums in another order end in other digits
        return predict(model, signature.model_frame(test, features), task)


def rows_to_judge(test: pd.DataFrame, target: str, split: SplitRecord, evaluation: Evaluation) -> Rows:
    """
    Raises:
        SpecError: a slice's column that the dataset does not have.
    """
    for column in evaluation.slices.columns:
        if column not in test.columns:
            near = difflib.get_close_matches(column, list(test.columns), n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"it has: {', '.join(test.columns)}"
            raise SpecError(
                f"`evaluation.slices.columns` names `{column}`, a column that data/{split.dataset} "
                f"does not have: {hint}"
            )
    return Rows(
        label=split.test_label,
        target=test[target].to_numpy(),
        group=None if split.group is None else test[split.group].to_numpy(),
        slices={column: test[column].to_numpy() for column in evaluation.slices.columns},
    )


def example(
    model: Any, test: pd.DataFrame, inputs: Sequence[Tensor], task: Task, features: Sequence[Tensor] = ()
) -> Example:
    """The first test row that the model takes (its nulls are allowed), and what it answers.

    features: what the model takes, where that is more than `inputs`; as in a manifest.
    """
    taken = features or inputs
    required = [each.name for each in (*inputs, *taken) if not each.nullable]
    row = test[test[required].notna().all(axis=1)].head(1)
    predictions = score(model, row, [each.name for each in taken], task)
    frame = signature.model_frame(row, [each.name for each in inputs])
    return Example(
        inputs={
            name: None if frame[name].isna().iloc[0] else frame[name].tolist()[0] for name in frame.columns
        },
        outputs={name: values.tolist()[0] for name, values in predictions.outputs.items()},
    )
