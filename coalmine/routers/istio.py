"""Istio: a VirtualService, for its gateways and its sidecars. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coalmine.cluster.kinds import VIRTUAL_SERVICE
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


@dataclass(frozen=True)
class HttpEntries:
    """The entries of `spec.http`. Istio gives everything to a sole destination; and while all weights of an
    entry are 0, its Envoy refuses every update of the whole port. So an entry with both slots has weights
    always, and they have a sum."""

    model: str
    namespace: str

    def targets(self, rule: Json) -> Sequence[Target]:
        routes = rule.get("route", [])
        return [
            Target(self._slot(each["destination"]), each.get("weight", 100 if len(routes) == 1 else 0))
            for each in routes
        ]

    def with_weights(self, rule: Json, weights: Mapping[Slot, int]) -> Json:
        routes = []
        for route in rule["route"]:
            slot = self._slot(route["destination"])
            routes.append({**route, "weight": 0 if slot is None else weights.get(slot, 0)})
        return {**rule, "route": routes}

    def copies(self, rule: Json) -> Copies | None:
        ours = [each for each in rule.get("mirrors", []) if self._slot(each["destination"]) is not None]
        if "mirror" in rule and self._slot(rule["mirror"]) is not None:
            raise ForeignRoute("it copies to a slot by `mirror`, and the rollout does by `mirrors`")
        if not ours:
            return None
        slot = self._slot(ours[0]["destination"])
        percent = ours[0].get("percentage", {}).get("value", 100)
        if len(ours) > 1 or slot is None or percent != int(percent):
            raise ForeignRoute("it copies to the slots several times, or in no whole percent")
        return Copies(slot, int(percent))

    def with_copies(self, rule: Json, copies: Copies | None) -> Json:
        mirrors = rule.get("mirrors", [])
        others = [each for each in mirrors if self._slot(each["destination"]) is None]
        if copies is not None:
            if "mirror" in rule:
                raise ForeignRoute(
                    "it has a `mirror` of its own, beside which Istio takes no other: write `mirrors`"
                )
            to = {**self._route(rule, copies.to)["destination"], "port": {"number": COPIES_PORT}}
            others.append({"destination": to, "percentage": {"value": copies.percent}})
        elif len(others) == len(mirrors):
            return rule
        without = {key: value for key, value in rule.items() if key != "mirrors"}
        return {**without, "mirrors": others} if others else without

    def conditions(self, rule: Json) -> Sequence[Condition]:
        return [
            Condition(
                [{"name": name, **asked} for name, asked in each.get("headers", {}).items()],
                {key: value for key, value in each.items() if key != "headers"},
            )
            for each in rule.get("match") or [{}]
        ]

    def for_matched(self, rule: Json, match: Match, slot: Slot) -> Json:
        name, asked = _header(match)
        only = {key: value for key, value in self._route(rule, slot).items() if key != "weight"}
        return {
            **{key: value for key, value in self.with_copies(rule, None).items() if key != "name"},
            "match": [
                {**each, "headers": {**each.get("headers", {}), name: asked}}
                for each in rule.get("match") or [{}]
            ],
            "route": [only],
        }

    def match_in(self, header: Json) -> Match | None:
        name = str(header["name"])
        if "exact" in header:
            return Match(UserKey("header", name), str(header["exact"]))
        return cookie_match(str(header.get("regex", ""))) if name.lower() == "cookie" else None

    def _route(self, rule: Json, slot: Slot) -> Json:
        """The first one: an entry may name a slot twice."""
        found: Json = next(each for each in rule["route"] if self._slot(each["destination"]) is slot)
        return found

    def _slot(self, destination: Json) -> Slot | None:
        """A subset of a slot is not the slot."""
        if "subset" in destination:
            return None
        name, _, domain = str(destination["host"]).partition(".")
        if domain.split(".")[0] not in ("", self.namespace):
            return None
        return next((slot for slot in Slot if name == service_name(self.model, slot)), None)


def _header(match: Match) -> tuple[str, Json]:
    if match.key.kind == "header":
        return match.key.name, {"exact": match.value}
    return "cookie", {"regex": cookie_pattern(match)}


# --- what the control plane says -------------------------------------------------------


def not_in_force(route: Json) -> NotInForce | None:
    """istiod writes a status only where it was told to (PILOT_ENABLE_STATUS, PILOT_ENABLE_ANALYSIS);
    elsewhere what the API server holds is all there is to go by. It reaches the proxies within some tenths of
    a second."""
    status = route.get("status", {})
    observed = status.get("observedGeneration")
    if observed is not None and int(observed) < route["metadata"].get("generation", 0):
        return NotInForce("istiod has not looked at its present version yet")
    wrong = [each for each in status.get("validationMessages", []) if each.get("level") == "ERROR"]
    if wrong:
        codes = ", ".join(
            f"{each.get('type', {}).get('code', '?')} {each.get('type', {}).get('name', '')}".strip()
            for each in wrong
        )
        return NotInForce(f"istiod finds in it: {codes}. See: istioctl analyze", refused=True)
    return None


ISTIO = Technology(
    name="Istio",
    component="istio",
    kind=VIRTUAL_SERVICE,
    rules_in="http",
    rules=HttpEntries,
    supports=frozenset({Routing.MIRROR, Routing.MATCH}),
    not_in_force=not_in_force,
)
