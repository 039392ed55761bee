"""Gateway API: an HTTPRoute, for whichever gateway or mesh its parents belong to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coalmine.cluster.kinds import HTTP_ROUTE
from coalmine.rollout.ports import Match, Routing, UserKey
from coalmine.routers.routes import ForeignRoute
from coalmine.routers.technology import (
    COPIES_PORT,
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

_EVERYTHING = {"path": {"type": "PathPrefix", "value": "/"}}  # what a rule without matches takes


@dataclass(frozen=True)
class HttpRouteRules:
    model: str
    namespace: str

    def targets(self, rule: Json) -> Sequence[Target]:
        return [Target(self._slot(ref), ref.get("weight", 1)) for ref in rule.get("backendRefs", [])]

    def with_weights(self, rule: Json, weights: Mapping[Slot, int]) -> Json:
        # Always written: without a weight a backend gets 1.
        refs = []
        for ref in rule["backendRefs"]:
            slot = self._slot(ref)
            refs.append({**ref, "weight": 0 if slot is None else weights.get(slot, 0)})
        return {**rule, "backendRefs": refs}

    def copies(self, rule: Json) -> Copies | None:
        ours = [
            each["requestMirror"] for each in rule.get("filters", []) if self._copied_to(each) is not None
        ]
        if not ours:
            return None
        slot = self._slot(ours[0]["backendRef"])
        if len(ours) > 1 or slot is None or "fraction" in ours[0]:
            raise ForeignRoute("it copies to the slots in several filters, or by a fraction")
        return Copies(slot, ours[0].get("percent", 100))

    def with_copies(self, rule: Json, copies: Copies | None) -> Json:
        others = [each for each in rule.get("filters", []) if self._copied_to(each) is None]
        if copies is not None:
            to = {**_object(self._backend(rule, copies.to)), "port": COPIES_PORT}
            mirror: Json = {"backendRef": to}
            if copies.percent != 100:  # which older versions of the API do not know, and they copy everything
                mirror["percent"] = copies.percent
            others.append({"type": "RequestMirror", "requestMirror": mirror})
        elif len(others) == len(rule.get("filters", [])):
            return rule
        without = {key: value for key, value in rule.items() if key != "filters"}
        return {**without, "filters": others} if others else without

    def conditions(self, rule: Json) -> Sequence[Condition]:
        matches = rule.get("matches") or [_EVERYTHING]
        return [
            Condition(
                each.get("headers", []), {key: value for key, value in each.items() if key != "headers"}
            )
            for each in matches
        ]

    def for_matched(self, rule: Json, match: Match, slot: Slot) -> Json:
        header = _header(match)
        return {
            # A name is one rule's alone.
            **{key: value for key, value in self.with_copies(rule, None).items() if key != "name"},
            "matches": [
                {**condition.rest, "headers": [*condition.headers, header]}
                for condition in self.conditions(rule)
            ],
            "backendRefs": [{**self._backend(rule, slot), "weight": 100}],
        }

    def match_in(self, header: Json) -> Match | None:
        kind, name, value = header.get("type", "Exact"), str(header["name"]), str(header["value"])
        if kind == "Exact":
            return Match(UserKey("header", name), value)
        return cookie_match(value) if name.lower() == "cookie" else None

    def _backend(self, rule: Json, slot: Slot) -> Json:
        """The first one: a rule may name a slot twice."""
        ref: Json = next(each for each in rule["backendRefs"] if self._slot(each) is slot)
        return ref

    def _slot(self, ref: Json) -> Slot | None:
        if ref.get("group", "") != "" or ref.get("kind", "Service") != "Service":
            return None
        if ref.get("namespace", self.namespace) != self.namespace:
            return None
        return next((slot for slot in Slot if ref["name"] == service_name(self.model, slot)), None)

    def _copied_to(self, filter_: Json) -> Slot | None:
        if filter_.get("type") != "RequestMirror":
            return None
        return self._slot(filter_["requestMirror"]["backendRef"])


def _header(match: Match) -> Json:
    if match.key.kind == "header":
        return {"type": "Exact", "name": match.key.name, "value": match.value}
    return {"type": "RegularExpression", "name": "cookie", "value": cookie_pattern(match)}


def _object(ref: Json) -> Json:
    """A backend without what a mirror has no field for."""
    return {key: value for key, value in ref.items() if key not in ("weight", "filters")}


# --- what the controllers say ----------------------------------------------------------


def not_in_force(route: Json, *, says_generation: bool = True) -> NotInForce | None:
    """
    says_generation: whether the controller says which version of the route it means. Where it does, what it
        says of an older one counts for nothing.
    """
    namespace = route["metadata"].get("namespace", "")
    generation = route["metadata"].get("generation", 0)
    parents = route["spec"].get("parentRefs", [])
    if not parents:
        return NotInForce("it belongs to no Gateway: its parentRefs are empty", refused=True)
    statuses = route.get("status", {}).get("parents", [])
    for parent in parents:
        identity = _identity(parent, namespace)
        said = [each for each in statuses if _identity(each["parentRef"], namespace) == identity]
        what = f"{parent.get('kind', 'Gateway')} {parent['name']}"
        if not said:
            return NotInForce(f"no controller has answered for {what} yet: is it there, and who runs it?")
        for status in said:
            # What a controller says without a version may be of an older one, where it knows better.
            current = [
                each
                for each in status.get("conditions", [])
                if each.get("observedGeneration", None if says_generation else generation) == generation
            ]
            found = _said_against(current, f"{status.get('controllerName', 'its controller')} for {what}")
            if found is not None:
                return found
    return None


def _said_against(conditions: Sequence[Json], who: str) -> NotInForce | None:
    """conditions: those of the route's present version."""
    said = {each["type"]: each for each in conditions}
    for kind in ("Accepted", "ResolvedRefs"):
        if kind not in said:
            return NotInForce(f"{who} has not said {kind} of its present version yet")
        if said[kind]["status"] != "True":
            return NotInForce(f"{who} says {_words(said[kind])}", refused=True)
    if said.get("PartiallyInvalid", {}).get("status") == "True":
        return NotInForce(f"{who} leaves a part of it out: {_words(said['PartiallyInvalid'])}", refused=True)
    return None


def _words(condition: Json) -> str:
    return f"{condition['type']} {condition['status']}, {condition['reason']}: {condition.get('message', '')}"


def _identity(ref: Json, namespace: str) -> tuple[object, ...]:
    return (
        ref.get("group", HTTP_ROUTE.group),
        ref.get("kind", "Gateway"),
        ref.get("namespace", namespace),
        ref["name"],
        ref.get("sectionName"),
        ref.get("port"),
    )


GATEWAY_API = Technology(
    name="Gateway API",
    component="gateway_api",
    kind=HTTP_ROUTE,
    rules_in="rules",
    rules=HttpRouteRules,
    supports=frozenset({Routing.MIRROR, Routing.MATCH}),
    not_in_force=not_in_force,
    matched_after=True,
)
