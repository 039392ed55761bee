"""Intervals for a rate: one that holds at every look at once, and one for a single look.

Reports show the first beside each observed rate; the bake compares the candidate with the
second. Verdicts come from e-processes, never from intervals that overlap or do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, betaln, xlog1py, xlogy

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BISECTIONS = 60


def confidence_sequence(
    events: npt.ArrayLike, requests: npt.ArrayLike, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """The lower and upper limit of a rate, anytime-valid; (0, 1) before any request.

    With probability 1 - alpha the true rate lies within the limits at every look. They hold the
    rates p at which a Beta(1/2, 1/2) mixture of likelihood ratios against p is below 1/alpha
    (Robbins 1970, "Statistical methods related to the law of the iterated logarithm"; for
    counts, Lindon & Malek 2022, "Anytime-valid inference for multinomial count data").

    `events` and `requests` broadcast against each other, and so do the limits.
    """
    x, n = np.broadcast_arrays(np.asarray(events, float), np.asarray(requests, float))
    mixture = betaln(x + 0.5, n - x + 0.5) - betaln(0.5, 0.5)

    def excluded(rate: Floats) -> Bools:
        return np.asarray(mixture - xlogy(x, rate) - xlog1py(n - x, -rate) >= -np.log(alpha))

    # With no request nothing is excluded, so any start inside will do.
    observed = np.divide(x, n, out=np.full(x.shape, 0.5), where=n > 0)
    return _limit(excluded, observed, np.zeros(x.shape)), _limit(excluded, observed, np.ones(x.shape))


def upper_limit(events: npt.ArrayLike, requests: npt.ArrayLike, confidence: float = 0.99) -> Floats:
    """The one-sided upper limit of Clopper & Pearson (1934): exact, for one look. 1 with no request."""
    x, n = np.broadcast_arrays(np.asarray(events, float), np.asarray(requests, float))
    some = x < n
    limit = betaincinv(x + 1, np.where(some, n - x, 1), confidence)
    return np.where(some, limit, 1.0)


def _limit(excluded: Callable[[Floats], Bools], inside: Floats, end: Floats) -> Floats:
    """Where the rates from `inside` towards `end` become excluded; `end` itself if they never do."""
    within, beyond = inside, end
    for _ in range(_BISECTIONS):
        middle = (within + beyond) / 2
        out = excluded(middle)
        within, beyond = np.where(out, within, middle), np.where(out, middle, beyond)
    return np.where(excluded(end), beyond, end)
