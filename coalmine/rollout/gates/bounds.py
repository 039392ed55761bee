"""Which bounds of a histogram tell something: those that stable exceeds now and then, but not mostly."""

from __future__ import annotations

import math
from collections.abc import Sequence

# A bound tells something when stable is beyond it now and then, but not most of the time.
RAREST, COMMONEST = 0.001, 0.6

# Fewer of stable's than this do not show which share of them lies beyond a bound.
ENOUGH = 200


def nearest(
    total: float, beyond: Sequence[float], wanted: Sequence[float], first: int = 0
) -> tuple[int, ...]:
    """For each wanted share, the bound whose share is nearest to it in log-odds; some may repeat.

    beyond: how many of `total` lie beyond each bound, descending. None before `first` is chosen.
    """
    shares = [(i, beyond[i] / total) for i in range(first, len(beyond))]
    telling = [i for i, share in shares if RAREST <= share <= COMMONEST]
    # Bounds that are too far apart leave none between: then the first that stable seldom exceeds,
    # or, when stable exceeds them all, the last.
    seldom = [i for i, share in shares if share < RAREST]
    candidates = telling or seldom[:1] or [len(beyond) - 1]
    odds = {i: math.log((beyond[i] + 0.5) / (total - beyond[i] + 0.5)) for i in candidates}
    return tuple(
        min(candidates, key=lambda i: abs(odds[i] - math.log(share / (1 - share)))) for share in wanted
    )
