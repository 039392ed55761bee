"""A stable release that loses more by label than its own evaluation said it would.

The servers' loss is the Brier score, halved where there are more than two classes, so that it lies in
[0, 1]: the manifest's metric `brier` is brought to that scale. A bounded loss may stand where others
count failures (coalmine.statistics.eprocess). Labels come late, and not of every request: what is
compared are those that came.
"""

from __future__ import annotations

import math

from coalmine.manifest import Manifest
from coalmine.retrain_spec import OnQuality
from coalmine.spec import Task
from coalmine.statistics.against_limits import AgainstLimits
from coalmine.statistics.intervals import confidence_sequence

METRIC = "brier"


def limit_of(manifest: Manifest, asked: OnQuality) -> float | None:
    """The loss by label that the release may have; None where its manifest has no such metric."""
    measured = manifest.decision.metrics.get(METRIC)
    if measured is None:
        return None
    return min(measured.high * _scale(manifest) + asked.margin, 1.0)


def is_worse(test: AgainstLimits, asked: OnQuality) -> bool:
    """Whether any look has shown it."""
    return test.highest_log_e >= math.log(1 / asked.alpha)


def sentence(test: AgainstLimits, manifest: Manifest, asked: OnQuality) -> str:
    """How it stands, for people."""
    if not test.requests:
        return "no label has come yet"
    low, high = confidence_sequence(test.events[0], test.requests, asked.alpha)
    measured, scale = manifest.decision.metrics[METRIC], _scale(manifest)
    return (
        f"it lost {test.events[0] / test.requests:.3g} by label ({low:.3g} to {high:.3g}) in "
        f"{test.requests:,.0f} labels; its evaluation said {measured.low * scale:.3g} to "
        f"{measured.high * scale:.3g}, and {test.limits[0]:.3g} is the limit"
    )


def _scale(manifest: Manifest) -> float:
    return 0.5 if manifest.task is Task.MULTICLASS else 1.0
