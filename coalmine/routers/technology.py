"""What moves users in a cluster: which object is the route, how its rules read, what its controller says.

All technologies are alike in this: a route has a list of rules. A rule that leads to both slots is shared by
weight; there may be several, for several paths, and they are shared alike. Whoever a split matches has a rule
of their own just before or after such a rule: the same requests with one header more, to one slot. All other
rules are people's, and so is whatever else stands in ours. Pure; the API server is `cluster_route`'s.

Law: `split_of(with_split(route, m, split), m) == split`, for every split that the technology supports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coalmine.cluster.kinds import Kind
from coalmine.rollout.ports import Match, Routing, TrafficSplit, UserKey
from coalmine.rollout_spec import SLOT_HEADER
from coalmine.routers.routes import ForeignRoute
from coalmine.slots import Slot

Json = dict[str, Any]

COPIES_PORT = 8081  # of a slot's Service (k8s/base/slot): what comes there its servers count as copies


@dataclass(frozen=True)
class Target:
    """Where a rule leads. slot: None where it is neither slot's. weight: relative, among the rule's."""

    slot: Slot | None
    weight: int


@dataclass(frozen=True)
class Copies:
    to: Slot
    percent: int


@dataclass(frozen=True)
class Condition:
    """One of the alternatives by which a rule takes a request. headers: as the technology writes them, each
    with its name; rest: whatever else it asks."""

    headers: Sequence[Json]
    rest: Json


class Rules(Protocol):
    """How one technology writes the rules of one model's route. What comes back is new; nothing is changed
    in place."""

    def targets(self, rule: Json) -> Sequence[Target]: ...

    def with_weights(self, rule: Json, weights: Mapping[Slot, int]) -> Json:
        """Shared so; whatever else the rule leads to gets nobody."""

    def copies(self, rule: Json) -> Copies | None:
        """Those sent to a slot; copies to anywhere else are people's.

        Raises:
            ForeignRoute: they are of a kind that no split has.
        """

    def with_copies(self, rule: Json, copies: Copies | None) -> Json: ...

    def conditions(self, rule: Json) -> Sequence[Condition]: ...

    def for_matched(self, rule: Json, match: Match, slot: Slot) -> Json:
        """The rule that takes from `rule` those whom `match` matches, and leads them to `slot`, uncopied."""

    def match_in(self, header: Json) -> Match | None:
        """None: it asks for something that no split asks for."""


@dataclass(frozen=True)
class NotInForce:
    """Why the data plane does not route by what the object says. refused: its controller has looked, and
    will not; otherwise it is yet to look."""

    why: str
    refused: bool = False


@dataclass(frozen=True)
class Rival:
    """Objects of another kind that take a model's requests away from its route.

    prefix: of their names, by model and namespace.
    """

    kind: Kind
    prefix: Callable[[str, str], str]


@dataclass(frozen=True)
class Technology:
    """
    name: as people call it. component: the folder of k8s/components that brings the route.
    kind: of the route.
    rules_in: the field of `spec` that holds the rules.
    rules: how they read, by model and namespace.
    not_in_force: what the route's status says against it; None where it is accepted as it stands.
    matched_after: where whoever asks for more is heard first, wherever their rule stands, it stands after the
        shared one. A proxy that counts its rules then sees no other rule move: Envoy Gateway's answers 503
        for a moment to the users of one that does.
    warning: for whoever still uses it, "" where there is nothing to warn of.
    """

    name: str
    component: str
    kind: Kind
    rules_in: str
    rules: Callable[[str, str], Rules]
    supports: frozenset[Routing]
    not_in_force: Callable[[Json], NotInForce | None]
    matched_after: bool = False
    rival: Rival | None = None
    warning: str = ""

    def with_split(self, route: Json, model: str, split: TrafficSplit) -> Json:
        """`route` as it sends the requests of `model` by `split`; nothing else in it is changed.

        Raises:
            ForeignRoute: none of its rules leads to both slots.
        """
        written = self._rules_of(route, model)
        copies = Copies(_unused(split), split.mirror_percent) if split.mirror_percent else None
        changed: list[Json] = []
        for rule in self._without_matched(route, model):
            if not _is_shared(written, rule):
                changed.append(rule)
                continue
            pair = [written.with_copies(written.with_weights(rule, split.weights), copies)]
            if split.match is not None and split.match_to is not None:
                at = 1 if self.matched_after else 0
                pair.insert(at, written.for_matched(rule, split.match, split.match_to))
            changed += pair
        return {**route, "spec": {**route["spec"], self.rules_in: changed}}

    def split_of(self, route: Json, model: str) -> TrafficSplit | None:
        """What `route` makes of the requests of `model`; None where it sends them nowhere.

        Raises:
            ForeignRoute: what it makes of them is no split of the two slots; says what was found.
        """
        written, rules = self._rules_of(route, model), self._listed(route)
        found = [
            _read(written, self._beside(rules, at), rule)
            for at, rule in enumerate(rules)
            if _is_shared(written, rule)
        ]
        if not found:
            raise ForeignRoute(_no_shared_rule(model))
        if any(split != found[0] for split in found):
            raise ForeignRoute("its rules share the users differently")
        return found[0]

    def _without_matched(self, route: Json, model: str) -> list[Json]:
        """The rules without those that an earlier split has put in.

        Raises:
            ForeignRoute: as `with_split`.
        """
        written, rules = self._rules_of(route, model), self._listed(route)
        if not any(_is_shared(written, rule) for rule in rules):
            raise ForeignRoute(_no_shared_rule(model))
        put_in = [
            beside
            for at, rule in enumerate(rules)
            if _is_shared(written, rule)
            and (beside := self._beside(rules, at)) is not None
            and _matched_in(written, beside, rule) is not None
        ]
        return [rule for rule in rules if not any(rule is each for each in put_in)]

    def _beside(self, rules: Sequence[Json], at: int) -> Json | None:
        """Where the rule of those whom a split matches stands, for the shared rule `at`."""
        place = at + 1 if self.matched_after else at - 1
        return rules[place] if 0 <= place < len(rules) else None

    def _rules_of(self, route: Json, model: str) -> Rules:
        return self.rules(model, route["metadata"].get("namespace", ""))

    def _listed(self, route: Json) -> list[Json]:
        return list(route["spec"].get(self.rules_in) or [])


def service_name(model: str, slot: Slot) -> str:
    """Of the Service, the Deployment, the virtual node: whatever a slot has."""
    return f"{model}-{slot}"


# --- reading ---------------------------------------------------------------------------


def _is_shared(written: Rules, rule: Json) -> bool:
    return {target.slot for target in written.targets(rule)} >= set(Slot)


def _read(written: Rules, beside: Json | None, rule: Json) -> TrafficSplit | None:
    """beside: where those whom a split matches have their rule."""
    weights = _shares(written.targets(rule))
    if weights is None:
        return None
    copies = written.copies(rule)
    if copies is not None and weights[copies.to] != 0:
        raise ForeignRoute(f"it copies to {copies.to}, which has users of its own")
    matched = None if beside is None else _matched_in(written, beside, rule)
    return TrafficSplit(
        weights=weights,
        mirror_percent=0 if copies is None else copies.percent,
        match=None if matched is None else matched[0],
        match_to=None if matched is None else matched[1],
    )


def _shares(targets: Sequence[Target]) -> dict[Slot, int] | None:
    """In percent; None where neither slot gets anybody."""
    weights = {slot: sum(each.weight for each in targets if each.slot is slot) for slot in Slot}
    total = sum(weights.values())
    if total == 0:
        return None
    if any(each.weight for each in targets if each.slot is None):
        raise ForeignRoute("it leads somewhere else besides the two slots")
    if any(100 * weight % total for weight in weights.values()):
        shown = ", ".join(f"{slot} {weight}" for slot, weight in weights.items())
        raise ForeignRoute(f"its weights make no whole percent ({shown})")
    return {slot: 100 * weight // total for slot, weight in weights.items()}


def _matched_in(written: Rules, rule: Json, shared: Json) -> tuple[Match, Slot] | None:
    """Whom `rule` takes from `shared` and to which slot, if that is what it does."""
    (target, *others) = written.targets(rule) or [Target(None, 0)]
    if target.slot is None or others:
        return None
    headers = _one_header_more(written.conditions(rule), written.conditions(shared))
    match = None if headers is None else written.match_in(headers)
    if match is None or _is_testers(match.key):
        return None
    return match, target.slot


def _is_testers(key: UserKey) -> bool:
    return key.kind == "header" and key.name.lower() == SLOT_HEADER


def _one_header_more(these: Sequence[Condition], those: Sequence[Condition]) -> Json | None:
    """The one header by which each of `these` asks more than its fellow of `those`."""
    if len(these) != len(those):
        return None
    more = []
    for this, that in zip(these, those, strict=True):
        added = [header for header in this.headers if header not in that.headers]
        if this.rest != that.rest or len(added) != 1 or len(this.headers) != len(that.headers) + 1:
            return None
        more += added
    return more[0] if more and all(each == more[0] for each in more) else None


def _unused(split: TrafficSplit) -> Slot:
    return min(Slot, key=lambda slot: split.weights.get(slot, 0))


def _no_shared_rule(model: str) -> str:
    blue, green = (service_name(model, slot) for slot in Slot)
    return f"none of its rules leads to both {blue} and {green}"


# --- cookies ---------------------------------------------------------------------------

# A cookie is one of several in a header. With anchors, since some technologies look for a match within.
_BEFORE, _AFTER = r"^(.*;\s*)?", r"(;.*)?$"


def cookie_pattern(match: Match) -> str:
    """Law: `cookie_match(cookie_pattern(match)) == match`."""
    return f"{_BEFORE}{re.escape(match.key.name)}={re.escape(match.value)}{_AFTER}"


def cookie_match(pattern: str) -> Match | None:
    if not (pattern.startswith(_BEFORE) and pattern.endswith(_AFTER)):
        return None
    name, equals, value = pattern[len(_BEFORE) : -len(_AFTER)].partition("=")
    if not equals:
        return None
    return Match(UserKey("cookie", _plain(name)), _plain(value))


def _plain(escaped: str) -> str:
    return re.sub(r"\\(.)", r"\1", escaped)
