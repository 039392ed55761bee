"""A model's answers about rows, by the names under which they are served. Needs numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coalmine.spec import Task


@dataclass(frozen=True)
class Predictions:
    """outputs:
    binary: `label`, and the `probability` of the positive class, the last of `classes`;
    multiclass: `label`, its `probability`, and `probabilities` in the order of `classes`,
        shape (rows, classes);
    regression: `prediction`.
    """

    task: Task
    outputs: dict[str, npt.NDArray[Any]]
    classes: tuple[Any, ...]

    def of(self, rows: npt.NDArray[np.int64]) -> Predictions:
        """About some of the rows, by number."""
        return Predictions(
            self.task, {name: values[rows] for name, values in self.outputs.items()}, self.classes
        )
