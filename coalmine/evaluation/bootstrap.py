"""Intervals by the block bootstrap: whole groups of rows are drawn, with replacement.

Rows of one group (a day of flights) share what is not in the features (a storm), so drawing
single rows would promise more than the data holds. Two models are compared under the same
draws, which is what makes the comparison paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from coalmine.errors import DataRefused
from coalmine.evaluation.metrics import FloatArray, Statistic
from coalmine.manifest import Estimate

# Percentile intervals over few groups are too narrow to be believed (Cameron, Gelbach, Miller 2008).
MINIMUM_GROUPS = 10
_UNDEFINED_SHARE = 0.05  # of the draws, before an interval counts as unknown
_DIGITS = 6  # significant; what follows differs between machines


def row_weights(group: npt.NDArray[Any] | None, rows: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each row was drawn, once per resample. Without a group, rows stand for themselves.

    Raises:
        DataRefused: too few groups for an interval.
    """
    codes = np.arange(rows) if group is None else pd.factorize(group, use_na_sentinel=False)[0]
    groups = int(codes.max()) + 1 if rows else 0
    if groups < MINIMUM_GROUPS:
        unit = "row(s)" if group is None else "group(s) of rows"
        raise DataRefused(
            f"the test holds {groups} {unit}, and an interval needs at least {MINIMUM_GROUPS}: "
            "test on more of them (`split.test_partitions` or `split.test_share` in model.yaml), "
            "or choose a finer `group` in dataset.yaml"
        )
    chance = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(chance.integers(0, groups, groups), minlength=groups)
        yield drawn[codes].astype(np.float64)


@dataclass(frozen=True)
class Bootstrapped:
    """A statistic on the rows as they are, and under every draw. NaN is undefined."""

    value: float
    draws: FloatArray

    def estimate(self, confidence: float) -> Estimate | None:
        """With its two-sided percentile interval; None where either is undefined."""
        defined = self.draws[~np.isnan(self.draws)]
        if np.isnan(self.value) or len(defined) < (1 - _UNDEFINED_SHARE) * len(self.draws):
            return None
        tail = (1 - confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return Estimate(value=rounded(self.value), low=rounded(low), high=rounded(high))


def bootstrap(
    statistics: Mapping[str, Statistic], group: npt.NDArray[Any] | None, rows: int, resamples: int, seed: int
) -> dict[str, Bootstrapped]:
    """One seed gives the same draws whatever the statistics are: differences are paired.

    Raises:
        DataRefused: too few groups for an interval.
    """
    draws = np.array(
        [
            [each(weights) for each in statistics.values()]
            for weights in row_weights(group, rows, resamples, seed)
        ]
    )
    equal = np.ones(rows)
    return {
        name: Bootstrapped(each(equal), draws[:, column])
        for column, (name, each) in enumerate(statistics.items())
    }


def rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
