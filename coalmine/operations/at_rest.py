"""Nothing is rolled out: what Git says runs, and the route is Git's."""

from __future__ import annotations

from coalmine.errors import ReconcilerUnavailable
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.rollout.ports import TrafficSplit
from coalmine.slots import Slots
from coalmine.spec import ModelSpec
from coalmine.wiring import Adapters


def restore(serving: ServingEnvironment, spec: ModelSpec, slots: Slots) -> None:
    """At rest, what runs is what Git says: both slots' servers, and everybody on stable."""
    assert slots.stable is not None
    chosen = serving.adapters(spec)
    chosen.reconciler.reconcile(slots)
    # Whatever another hand made of the route.
    chosen.router.set_split(TrafficSplit.all_to(slots.stable))
    chosen.router.give_back()


def leave_at_rest(serving: ServingEnvironment, chosen: Adapters, model: str) -> None:
    """What Git says runs, and only then the route is Git's: an older commit would move the users.

    Where the next release was handed over meanwhile, the route is its rollout's, and so is what runs.

    Raises:
        ReconcilerUnavailable: safe to retry.
    """
    slots = serving.slots(model)
    try:
        chosen.reconciler.reconcile(slots)
    except ReconcilerUnavailable:
        if serving.slots(model) == slots:
            raise
    if slots.candidate is None and serving.slots(model) == slots:
        chosen.router.give_back()
