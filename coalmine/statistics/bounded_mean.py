"""Evidence on the mean of bounded values against a fixed bound, by betting.

For what is one number per request with nothing to compare it with but the bound: whether two answers
agree (0 or 1), the difference of two losses on the same request (-1 to 1). A bettor with wealth 1 who
stakes the share lambda pays 1 + lambda (D - m) for the value D: while the mean is not above m nobody
expects to gain, so the wealth is an e-process. It uses the values' own variance; the bound that takes
a loss for a coin (coalmine.statistics.eprocess) knows their mean alone.

Source: Waudby-Smith & Ramdas (2023), "Estimating means of bounded random variables by betting".
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coalmine.errors import SpecError
from coalmine.statistics import saved

# What is staked, as shares of the most that can be staked without ever losing all: the small ones for
# values that spread widely, the large ones for values that hardly ever differ.
_STAKES = np.array([0.005, 0.02, 0.07, 0.2, 0.5, 0.8, 0.97])


class Side(enum.StrEnum):
    ABOVE = "above"  # null: the mean is the bound at most
    BELOW = "below"  # null: the mean is the bound at least


@dataclass(frozen=True)
class BoundedMean:
    """
    side: what a large e-value says of the mean.
    low, high: no value lies beyond.
    log_wealth: of each stake, its share of the start included.
    """

    side: Side
    bound: float
    low: float
    high: float
    log_wealth: tuple[float, ...] = (-math.log(len(_STAKES)),) * len(_STAKES)

    def __post_init__(self) -> None:
        if not self.low < self.bound < self.high:
            raise SpecError(
                f"a mean of values from {self.low:g} to {self.high:g} cannot be compared with "
                f"{self.bound:g}: "
                "in the gate's settings, give a bound between the two"
            )

    @property
    def log_e(self) -> float:
        return float(np.logaddexp.reduce(self.log_wealth))

    def with_values(
        self, bins: Sequence[tuple[float, float]], counts: Sequence[float], dispersion: float = 1.0
    ) -> Self:
        """After one more poll: so many values in each bin, each (lowest, highest) that may lie in it.

        A value counts as the end of its bin that says less, so the null stays a null.
        dispersion: how many values are worth one independent one, 1 or more.
        """
        lowest, highest = np.array(bins, float).T
        if self.side is Side.ABOVE:
            gain, most = lowest - self.bound, 1 / (self.bound - self.low)
        else:
            gain, most = self.bound - highest, 1 / (self.high - self.bound)
        payoff = np.log1p(_STAKES[:, None] * most * gain) @ (np.array(counts, float) / dispersion)
        return replace(self, log_wealth=tuple((np.array(self.log_wealth) + payoff).tolist()))

    def to_json(self) -> dict[str, object]:
        return saved.to_json(self)

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Self:
        """Law: `from_json(b.to_json()) == b`."""
        return saved.from_json(cls, data)
