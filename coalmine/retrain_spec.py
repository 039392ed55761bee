"""`retrain` in model.yaml: what makes a model due, besides its schedule and people.

Without it nothing does. docs/triggers.md explains each key.
"""

from __future__ import annotations

from pydantic import Field

from coalmine.strict import Spec


class OnQuality(Spec):
    """When late labels show that the stable release loses more than its own evaluation said: more than
    the bad end of `brier`'s interval and `margin`. alpha: a false alarm, in the whole life of a release."""

    alpha: float = Field(0.01, gt=0, lt=0.5)
    margin: float = Field(0.01, ge=0, lt=1)


class OnDrift(Spec):
    """When what users ask about, or what they are answered, has shifted against the rows that the stable
    release was made of, by more than `tolerance` in total variation: the share of the rows that would have
    to lie in another bin. alpha: a false alarm, in the whole life of a release, whichever feature raises it.
    period_days: requests are compared by whole periods, so that what goes up and down within one is none."""

    alpha: float = Field(0.01, gt=0, lt=0.5)
    tolerance: float = Field(0.1, gt=0, lt=1)
    period_days: float = Field(7, gt=0)


class Retrain(Spec):
    """on_change: when Git holds a change of what DVC says the model is made of."""

    on_change: bool = False
    on_quality: OnQuality | None = None
    on_drift: OnDrift | None = None
