"""`retrain` in model.yaml: what makes a model due, besides its schedule and people.

Without it nothing does. docs/triggers.md explains each key.
"""

from __future__ import annotations

from coalmine.strict import Spec


class Retrain(Spec):
    """on_change: when Git holds a change of what DVC says the model is made of."""

    on_change: bool = False
