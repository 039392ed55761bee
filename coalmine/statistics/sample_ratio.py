"""Whether the requests reach the two arms by the weight that was set, at every look at once.

The gates' guarantee stands on random routing by the intended weight. Where the counts say otherwise,
something else decides who goes where, or who is counted: no gate may conclude anything.

The test of Lindon & Malek (2022), "Anytime-valid inference for multinomial count data", for two arms: the
counts' probability under a Beta mixture of weights, against that under the nearest weight within
the tolerance. At any one of those this e-process expects at most 1, so it ever reaches 1/alpha with
probability at most alpha.
"""

from __future__ import annotations

from scipy.special import betaln, xlog1py, xlogy

# The mixture's weights are spread as an estimate from so many requests is.
_CONCENTRATION = 100.0

# Relative to the smaller share. Requests are counted when they end: a slower arm's counts lag by a few.
TOLERANCE = 0.01


def log_e(
    candidate_requests: float, stable_requests: float, weight: float, tolerance: float = TOLERANCE
) -> float:
    """Evidence, in nats, that the requests counted at one `weight`, in (0, 1), did not come by it.

    The counts are totals since that weight was set; another weight begins at 0 again.
    """
    requests = candidate_requests + stable_requests
    if requests == 0:
        return 0.0
    a, b = _CONCENTRATION * weight, _CONCENTRATION * (1 - weight)
    mixture = betaln(a + candidate_requests, b + stable_requests) - betaln(a, b)
    slack = tolerance * min(weight, 1 - weight)
    nearest = min(max(candidate_requests / requests, weight - slack), weight + slack)
    return float(mixture - xlogy(candidate_requests, nearest) - xlog1py(stable_requests, -nearest))
