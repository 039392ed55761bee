"""How many requests are worth one independent one, from stable's own history of polls.

Failures that come in bursts (a restart, a garbage collection) are not independent, and a gate that
takes them so sounds false alarms. Dividing its counts by their over-dispersion phi, how many times their
variance is that of independent requests, restores the alarm's rate, approximately, at the price of time.

Only what happens at like rates is compared: each block of polls with the one beside it, given how many
requests came in each. So a load that rises, or a rate that changes over the day, is no over-dispersion.
Bursts may be shorter or longer than a poll: phi is the largest over blocks of 1, 2, 4, ... polls.

Source: quasi-likelihood (Wedderburn 1974; McCullagh & Nelder 1989, section 4.5), with the squared
differences of neighbours (von Neumann 1941) in place of residuals. Limits: Satterthwaite (1946).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

Floats = npt.NDArray[np.float64]

# With fewer pairs of blocks the spread of their differences is itself not known.
_FEWEST_PAIRS = 20

# Bursts are taken as shown when the lower limit at _SHOWN says so; then the upper limit counts.
_SHOWN, _UPPER = 0.999, 0.95


@dataclass(frozen=True)
class Dispersion:
    """
    estimate: phi, 1 or more.
    factor: what to divide counts by: 1 where the history shows no bursts, the upper 95 % limit of phi
        where it does. Bursts so rare that the history has none are not known to it.
    polls, events: what it rests on.
    block_polls: the length of the blocks that showed the most, in polls.
    """

    estimate: float
    factor: float
    polls: int
    events: float
    block_polls: int = 1


def dispersion(requests: Sequence[float], events: Sequence[float]) -> Dispersion:
    """Of successive polls of equal length: the requests of each, and the events counted among them."""
    n, x = np.asarray(requests, float), np.asarray(events, float)
    found = Dispersion(1.0, 1.0, len(n), float(x.sum()))
    block_polls = 1
    while len(n) // block_polls // 2 >= _FEWEST_PAIRS:
        estimate, factor = _of_pairs(_blocks(n, block_polls), _blocks(x, block_polls))
        if (factor, estimate) > (found.factor, found.estimate):
            found = Dispersion(estimate, factor, len(n), float(x.sum()), block_polls)
        block_polls *= 2
    return found


def _blocks(counts: Floats, polls: int) -> Floats:
    """Sums over blocks, two by two: (pairs, 2)."""
    pairs = len(counts) // polls // 2
    blocks: Floats = counts[: pairs * 2 * polls].reshape(pairs, 2, polls).sum(axis=2)
    return blocks


def _of_pairs(n: Floats, x: Floats) -> tuple[float, float]:
    """phi and the factor from pairs of neighbouring blocks."""
    both, shown = n.sum(axis=1), x.sum(axis=1)
    telling = (n.min(axis=1) > 0) & (shown > 0) & (shown < both)
    if np.count_nonzero(telling) < _FEWEST_PAIRS:
        return 1.0, 1.0
    n, x, both, shown = n[telling], x[telling], both[telling], shown[telling]
    # Given the pair's events, independent ones fall to its blocks as drawn from an urn.
    difference = (x[:, 0] - shown * n[:, 0] / both) ** 2
    expected = shown * (both - shown) * n[:, 0] * n[:, 1] / (both**2 * (both - 1))
    phi = float(difference.sum() / expected.sum())
    variance = float(((difference - phi * expected) ** 2).sum() / expected.sum() ** 2)
    if variance == 0:
        return max(phi, 1.0), max(phi, 1.0)
    freedom = 2 * phi**2 / variance
    lower, upper = (phi * freedom / float(chdtri(freedom, tail)) for tail in (1 - _SHOWN, _UPPER))
    return max(phi, 1.0), max(upper, 1.0) if lower > 1 else 1.0
