"""Evidence that a distribution over bins lies further from known shares than a limit, period after period.

How far is the total variation: the share of the rows that would have to lie in another bin. It is the
most by which any set of bins holds more than its known share,

    TV(q, p) = max over sets A of q(A) - p(A),

so that TV(q, p) <= limit says exactly that q(A) <= p(A) + limit for every A. Each period names the set that
has grown in the periods before it, and bets against its limit with the rows that come: a plug-in of that
maximum (Shekhar & Ramdas 2021, "Nonparametric two-sample testing by betting"), with the e-process of
a roll-back (coalmine.statistics.eprocess).

A whole period is one bet, since shares go up and down within it (night and day). A payoff is a product of
factors 1 + c (x - limit) with one c > 0, x being whether a row lies in A. For independent rows with shares
q_i it expects the product of 1 + c (q_i(A) - limit), which by the means' inequality is no more than 1 where
the q_i(A) are within the limit on average over the period. That alone is the null hypothesis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from coalmine.statistics.eprocess import EProcess, Null, Question, TwoArmCounts

# What older periods showed weighs as about so many rows beside the newest one: a shift must not be looked for
# in the mean over a long life. Found by simulation: 1000 finds a late shift in half as many periods again.
_RECENT_ROWS = 300.0

# The limit, as a rate to bet on, weighs so much that what it is rounded by shows nowhere.
_FIRM_REQUESTS = 1e6


@dataclass(frozen=True)
class AgainstShares:
    """
    shares: the known ones, by bin. limit: of the total variation.
    pending: rows of the period that is under way; newest: of the last whole one that had any.
    recent: of the newest whole periods, by which bets are placed.
    highest_log_e: the most evidence after any period.
    """

    process: EProcess
    shares: tuple[float, ...]
    limit: float
    pending: tuple[float, ...]
    newest: tuple[float, ...]
    recent: tuple[float, ...]
    highest_log_e: float = 0.0

    @classmethod
    def start(cls, shares: Sequence[float], limit: float) -> Self:
        process = EProcess.start(Question.ROLL_BACK, Null(1.0, 0.0), polls_per_start=1)
        nothing = (0.0,) * len(shares)
        return cls(process, tuple(shares), limit, nothing, nothing, nothing)

    def with_rows(self, rows: Sequence[float]) -> Self:
        """After a look within a period. rows: by bin."""
        return replace(self, pending=tuple(a + b for a, b in zip(self.pending, rows, strict=True)))

    def at_period_end(self) -> Self:
        rows = sum(self.pending)
        if not rows:
            return self
        process = self._bet()
        sums = np.array(self.recent) + self.pending
        recent = sums * min(1.0, _RECENT_ROWS / sums.sum())
        return replace(
            self,
            process=process,
            pending=(0.0,) * len(self.shares),
            newest=self.pending,
            recent=tuple(recent.tolist()),
            highest_log_e=max(self.highest_log_e, process.log_e),
        )

    def _bet(self) -> EProcess:
        known = sum(self.recent)
        if not known:
            return self.process  # nothing says which bins to bet on
        shares, recent, pending = map(np.array, (self.shares, self.recent, self.pending))
        grown = recent / known > shares
        limit = float(shares[grown].sum()) + self.limit
        if limit >= 1:
            return self.process  # no set of these bins can hold more
        past = TwoArmCounts(known, _FIRM_REQUESTS, (float(recent[grown].sum()),), (limit * _FIRM_REQUESTS,))
        new = TwoArmCounts(float(pending.sum()), 0, (float(pending[grown].sum()),), (0.0,))
        return self.process.with_candidate_poll(new, (limit,), past)


def total_variation(rows: npt.ArrayLike, shares: npt.ArrayLike) -> float:
    """How far the rows' shares lie from the known ones, in [0, 1]."""
    counts = np.asarray(rows, float)
    return float(np.abs(counts / counts.sum() - np.asarray(shares, float)).sum() / 2)


def sampling_distance(rows: float, bins: int, alpha: float) -> float:
    """No further than so do the shares of a sample lie from those that it is drawn from, in total variation,
    with probability 1 - alpha.

    Hoeffding's inequality for each of the 2**bins sets (Bretagnolle & Huber 1978; Weissman et al. 2003,
    "Inequalities for the L1 deviation of the empirical distribution"). Bins between quantiles of the same
    sample hold a share that has a Beta distribution, which is as narrow (Marchal & Arbel 2017, "On the
    sub-Gaussianity of the Beta and Dirichlet distributions").
    """
    return min(1.0, math.sqrt((bins * math.log(2) - math.log(alpha)) / (2 * rows))) if rows else 1.0
