"""Whose hands are on a route, by what the API server writes down about an object. Pure.

The API server notes for each field which manager wrote it last (`metadata.managedFields`); a route's rules
are one field. What a rollout needs to remember of the route stands on the route itself, in annotations, since
the next tick may be another process's:

    kustomize.toolkit.fluxcd.io/reconcile: disabled    Flux leaves the object alone
    coalmine.dev/split                                 the split that the rollout has set last
    coalmine.dev/restored-after                        who moved it in between, and was set back once
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from coalmine.cluster.client import FIELD_MANAGER
from coalmine.rollout.ports import TrafficSplit
from coalmine.rollout.written import split_to_json
from coalmine.routers.technology import Json

TAKEN, TAKEN_AS = "kustomize.toolkit.fluxcd.io/reconcile", "disabled"
SPLIT = "coalmine.dev/split"
RESTORED_AFTER = "coalmine.dev/restored-after"

# By the names that they have for the API server: Flagger; Argo Rollouts, and its plugin for Gateway API.
_ROLLOUT_CONTROLLERS = frozenset({"flagger", "rollouts-controller", "argo-rollouts", "gatewayAPI"})
_ARGO_IN_PROGRESS = "rollouts.argoproj.io/gatewayapi-canary"  # the plugin's label, while its weight is not 0


@dataclass(frozen=True)
class Memory:
    """What the annotations say. split: `as_text`; None while no rollout has the route."""

    split: str | None = None
    restored_after: frozenset[str] = frozenset()


def memory_of(route: Json) -> Memory:
    notes = route["metadata"].get("annotations", {})
    after = notes.get(RESTORED_AFTER)
    return Memory(notes.get(SPLIT), frozenset(after.split(", ")) if after else frozenset())


def with_memory(route: Json, memory: Memory) -> Json:
    notes = dict(route["metadata"].get("annotations", {}))
    for key, value in (
        (TAKEN, None if memory.split is None else TAKEN_AS),
        (SPLIT, memory.split),
        (RESTORED_AFTER, ", ".join(sorted(memory.restored_after)) or None),
    ):
        if value is None:
            notes.pop(key, None)
        else:
            notes[key] = value
    metadata = {key: value for key, value in route["metadata"].items() if key != "annotations"}
    return {**route, "metadata": {**metadata, "annotations": notes} if notes else metadata}


def as_text(split: TrafficSplit) -> str:
    """The same for equal splits."""
    return json.dumps(split_to_json(split), sort_keys=True)


def other_controller(route: Json, rules_in: str) -> str | None:
    """The controller that moves this route itself, if there is one."""
    for owner in route["metadata"].get("ownerReferences", []):
        if owner.get("controller"):
            return f"{owner['kind']} {owner['name']}"
    if _ARGO_IN_PROGRESS in route["metadata"].get("labels", {}):
        return "Argo Rollouts"
    hands = _hands_on(route, rules_in)
    # Whoever else holds the rules too has them as they are: what the controller wrote is over.
    return hands[0] if hands and set(hands) <= _ROLLOUT_CONTROLLERS else None


def last_hand(route: Json, rules_in: str) -> str:
    """Who gave the rules the value that they have now."""
    hands = [hand for hand in _hands_on(route, rules_in) if hand != FIELD_MANAGER]
    return hands[0] if hands else "another process of coalmine"


def _hands_on(route: Json, rules_in: str) -> list[str]:
    """Those who hold the rules, the last one first; several where they want the same."""
    entries = [
        entry
        for entry in route["metadata"].get("managedFields", [])
        if f"f:{rules_in}" in entry.get("fieldsV1", {}).get("f:spec", {})
    ]
    entries.sort(key=lambda entry: str(entry.get("time", "")), reverse=True)
    return [str(entry["manager"]) for entry in entries]
