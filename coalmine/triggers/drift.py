"""A stable release that is asked about other rows than it was made of, or answers otherwise than it did.

One test for each feature, and one for the score, against the release's own reference. How far two
distributions lie apart is their total variation over the reference's bins. The training rows are
a sample themselves: what a sample of their number may be off by is added to `tolerance`, for half of `alpha`;
the tests spend the other half, an equal part each, so that whichever says so may be named.

Requests are independent given the shares of their moment, and those shares are within the tolerance on
average over every whole period: that is what is tested, and rejected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coalmine.evaluation.reference import Distribution, Reference
from coalmine.retrain_spec import OnDrift
from coalmine.statistics.against_shares import AgainstShares, sampling_distance, total_variation

_DAY_S = 86_400.0
_MOST_TOLD = 5  # a sentence of two hundred features helps nobody
_CONFIDENCE = 0.95  # of the interval that people read; no verdict rests on it


@dataclass(frozen=True)
class Drift:
    """
    asked: what the tests were begun for. tests: one for each distribution of the reference.
    began_s: when the period under way did, in seconds since the epoch. periods: whole ones with rows.
    """

    reference: Reference
    asked: OnDrift
    tests: tuple[AgainstShares, ...]
    began_s: float
    periods: int = 0

    @classmethod
    def begin(cls, reference: Reference, asked: OnDrift, now_s: float) -> Self:
        alpha = asked.alpha / 2 / len(reference.distributions)
        tests = (_test(each, asked.tolerance, alpha) for each in reference.distributions)
        return cls(reference, asked, tuple(tests), now_s)

    def with_rows(self, new: Sequence[Mapping[str, tuple[int, ...]]], now_s: float) -> Self:
        """After a look. new: by key of a distribution, of each life of the servers. What is counted by other
        bins is left out.

        What came since the look before belongs to the period that was under way then.
        """
        keys = [each.key for each in self.reference.distributions]
        tests = self.tests
        for counts in new:
            tests = tuple(
                test.with_rows(counts[key]) if len(counts.get(key, ())) == len(test.shares) else test
                for key, test in zip(keys, tests, strict=True)
            )
        over = math.floor((now_s - self.began_s) / self._period_s)
        if over < 1:
            return replace(self, tests=tests)
        return replace(
            self,
            tests=tuple(test.at_period_end() for test in tests),
            began_s=self.began_s + over * self._period_s,
            periods=self.periods + any(sum(test.pending) for test in tests),
        )

    @property
    def shifted(self) -> tuple[int, ...]:
        """Which distributions any period has shown to be too far, the furthest in the newest first."""
        enough = math.log(2 * len(self.tests) / self.asked.alpha)
        shown = [place for place, test in enumerate(self.tests) if test.highest_log_e >= enough]
        return tuple(sorted(shown, key=self._distance, reverse=True))

    def sentence(self, now_s: float) -> str:
        """How it stands, for people."""
        if not self.periods:
            rows = sum(self.tests[-1].pending)
            left_days = max(0.0, self.began_s + self._period_s - now_s) / _DAY_S
            return (
                f"{rows:,.0f} requests in the first period of {self.asked.period_days:g} days, which ends in "
                f"{left_days:.2g} days; a shift is shown from the second on"
            )
        shifted = self.shifted
        if not shifted:
            furthest = max(range(len(self.tests)), key=self._above_limit)
            said = f"no shift is shown; the furthest is {self._standing(furthest)}"
        else:
            told = "; ".join(map(self._standing, shifted[:_MOST_TOLD]))
            more = len(shifted) - _MOST_TOLD
            said = f"shifted against what it was made of: {told}" + (f"; and {more} more" if more > 0 else "")
        left_out = len(self.reference.left_out)
        return said + (f". {left_out} of its features are not counted" if left_out else "")

    @property
    def _period_s(self) -> float:
        return self.asked.period_days * _DAY_S

    def _distance(self, place: int) -> float:
        test = self.tests[place]
        return total_variation(test.newest, test.shares) if sum(test.newest) else 0.0

    def _above_limit(self, place: int) -> float:
        return self._distance(place) - self.tests[place].limit

    def _standing(self, place: int) -> str:
        """One distribution in the newest period that had any rows."""
        test, distribution = self.tests[place], self.reference.distributions[place]
        rows, distance = sum(test.newest), self._distance(place)
        off = sampling_distance(rows, len(test.shares), 1 - _CONFIDENCE)
        grown = np.array(test.newest) / max(rows, 1) - test.shares
        most = int(grown.argmax())
        return (
            f"{distribution.of} `{distribution.name}` by {distance:.3g} ({max(0.0, distance - off):.2g} to "
            f"{min(1.0, distance + off):.2g}; {test.limit:.3g} is the limit) in {rows:,.0f} requests, "
            f"{test.newest[most] / max(rows, 1):.0%} of which are {distribution.bin_words(most)} and "
            f"{test.shares[most]:.0%} were"
        )


def _test(distribution: Distribution, tolerance: float, alpha: float) -> AgainstShares:
    rows = sum(distribution.rows)
    limit = tolerance + sampling_distance(rows, len(distribution.rows), alpha)
    return AgainstShares.start([count / max(rows, 1) for count in distribution.rows], min(limit, 1.0))
