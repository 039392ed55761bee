"""AWS App Mesh: a VirtualRouter over one virtual node for each slot. Pure.

AWS ended it: what is here serves those who still run its controller while they move away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coalmine.cluster.kinds import VIRTUAL_ROUTER
from coalmine.rollout.ports import Match, Routing, UserKey
from coalmine.routers.technology import (
    Condition,
    Copies,
    Json,
    NotInForce,
    Target,
    Technology,
    cookie_match,
    cookie_pattern,
    service_name,
)
from coalmine.slots import Slot

WARNING = (
    "AWS ended the support of App Mesh on 2026-09-30, and since then neither its console nor its resources "
    "can be reached. Move this environment to `router: gateway_api` (Amazon VPC Lattice and Envoy Gateway "
    "speak it) or to `router: istio`: docs/meshes/app-mesh.md says how."
)
_LAST = 1000  # the priority that App Mesh looks at last


@dataclass(frozen=True)
class Routes:
    """The entries of `spec.routes`; those for HTTP alone."""

    model: str
    namespace: str

    def targets(self, rule: Json) -> Sequence[Target]:
        return [Target(self._slot(each), each["weight"]) for each in _targets(rule)]

    def with_weights(self, rule: Json, weights: Mapping[Slot, int]) -> Json:
        targets = []
        for target in _targets(rule):
            slot = self._slot(target)
            targets.append({**target, "weight": 0 if slot is None else weights.get(slot, 0)})
        return _leading_to(rule, targets)

    def copies(self, rule: Json) -> Copies | None:  # noqa: ARG002
        return None  # App Mesh has none

    def with_copies(self, rule: Json, copies: Copies | None) -> Json:
        assert copies is None
        return rule

    def conditions(self, rule: Json) -> Sequence[Condition]:
        match = rule["httpRoute"]["match"]
        return [
            Condition(
                match.get("headers", []), {key: value for key, value in match.items() if key != "headers"}
            )
        ]

    def for_matched(self, rule: Json, match: Match, slot: Slot) -> Json:
        http = rule["httpRoute"]
        asked = {**http["match"], "headers": [*http["match"].get("headers", []), _header(match)]}
        only = {**next(each for each in _targets(rule) if self._slot(each) is slot), "weight": 100}
        route = {
            **rule,
            "name": f"{rule['name']}-matched",
            "priority": max(0, rule.get("priority", _LAST) - 1),
            "httpRoute": {**http, "match": asked},
        }
        return _leading_to(route, [only])

    def match_in(self, header: Json) -> Match | None:
        name, asked = str(header["name"]), header.get("match", {})
        if header.get("invert"):
            return None
        if "exact" in asked:
            return Match(UserKey("header", name), str(asked["exact"]))
        return cookie_match(str(asked.get("regex", ""))) if name.lower() == "cookie" else None

    def _slot(self, target: Json) -> Slot | None:
        node = target.get("virtualNodeRef", {})
        if node.get("namespace", self.namespace) != self.namespace:
            return None
        return next((slot for slot in Slot if node.get("name") == service_name(self.model, slot)), None)


def _targets(rule: Json) -> list[Json]:
    return list(rule.get("httpRoute", {}).get("action", {}).get("weightedTargets", []))


def _leading_to(rule: Json, targets: Sequence[Json]) -> Json:
    http = rule["httpRoute"]
    return {**rule, "httpRoute": {**http, "action": {**http["action"], "weightedTargets": list(targets)}}}


def _header(match: Match) -> Json:
    if match.key.kind == "header":
        return {"name": match.key.name, "match": {"exact": match.value}}
    return {"name": "cookie", "match": {"regex": cookie_pattern(match)}}


# --- what the controller says ----------------------------------------------------------


def not_in_force(route: Json) -> NotInForce | None:
    """Its controller writes a version down once App Mesh itself has it."""
    status = route.get("status", {})
    if status.get("observedGeneration") != route["metadata"].get("generation"):
        return NotInForce("the App Mesh controller has not passed its present version on yet")
    active = [each for each in status.get("conditions", []) if each["type"] == "VirtualRouterActive"]
    if not active:
        return NotInForce("the App Mesh controller has not said whether it is active")
    if active[0]["status"] != "True":
        why = f"{active[0].get('reason', '')} {active[0].get('message', '')}".strip()
        return NotInForce(
            f"the App Mesh controller says that it is not active: {why or 'no reason given'}", True
        )
    return None


APP_MESH = Technology(
    name="App Mesh",
    component="appmesh",
    kind=VIRTUAL_ROUTER,
    rules_in="routes",
    rules=Routes,
    supports=frozenset({Routing.MATCH}),
    not_in_force=not_in_force,
    warning=WARNING,
)
