"""Moves one model's users between its slots in a cluster, whatever its technology (`technology`).

The route is people's and Flux's at rest. The first split takes it, in the same write; every split is read,
changed and written back against the version that was read; `give_back` ends it. What the controllers of the
data plane make of it is read from its status.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from coalmine.cluster.client import Cluster, ClusterRefuses, ClusterUnavailable, Stale
from coalmine.cluster.kinds import Kind
from coalmine.errors import RouteConflict, RouterUnavailable, Unsupported
from coalmine.rollout.ports import Match, Routing, TrafficSplit, UserKey
from coalmine.routers import hands
from coalmine.routers.routes import ForeignRoute
from coalmine.routers.technology import Json, NotInForce, Technology
from coalmine.slots import Slot

TAKEN_UP_WITHIN_S = 5.0  # Envoy Gateway and istiod need some tenths
REACHES_PROXIES_S = 1.0  # what the controller has accepted: some tenths, and more on a busy machine
LOOK_AGAIN_S = 0.1
ATTEMPTS = 5  # of a write that somebody else's comes before
NOBODY = Match(UserKey("header", "x-coalmine-nobody"), "nobody")


def route_name(model: str) -> str:
    return f"{model}-route"


class ClusterRouter:
    """The router of `model` in the namespace of `cluster`."""

    def __init__(self, cluster: Cluster, model: str, technology: Technology) -> None:
        self._cluster = cluster
        self._model = model
        self._technology = technology

    def supports(self) -> frozenset[Routing]:
        return self._technology.supports

    def set_split(self, split: TrafficSplit) -> None:
        """As the port says; when it returns, the data plane's controller has accepted `split`."""
        self._require(split)
        if self._technology.matched_after and (between := self._between(split)) is not None:
            self._set(between)
            time.sleep(REACHES_PROXIES_S)
        self._set(split)

    def _between(self, split: TrafficSplit) -> TrafficSplit | None:
        """On the way from or to chosen users, their rule with nobody in it: a proxy may know a rule a moment
        before it knows what the rule leads to, or a moment longer, and answers 503 meanwhile to whoever is in
        it. When it has taken up what its controller has accepted, no status tells."""
        with self._faults_told():
            route = self._route()
        try:
            present = self._technology.split_of(route, self._model)
        except ForeignRoute:
            return None
        before = None if present is None or present.match == NOBODY else present.match
        if before is None and split.match is not None:
            return replace(split, match=NOBODY)
        if before is not None and split.match is None:
            return replace(split, match=NOBODY, match_to=min(Slot))
        return None

    def _set(self, split: TrafficSplit) -> None:
        with self._faults_told():
            for _ in range(ATTEMPTS):
                route = self._route()
                changed = self._as_set(route, split)
                try:
                    written = route if changed == route else self._replaced(changed)
                except Stale:
                    continue
                self._in_force(written)
                return
        raise RouterUnavailable(
            f"{self._what} was written by others {ATTEMPTS} times while {self._model} was being routed. See "
            f"who does it: kubectl get {self._words} --show-managed-fields -o yaml"
        )

    def observed_split(self) -> TrafficSplit | None:
        """As the port says: what the data plane's controller has accepted. Where it has yet to, it is awaited
        a little."""
        with self._faults_told():
            route = self._route()
            self._split_of(route)  # what another hand wrote is said at once, accepted or not
            route = self._in_force(route)
        split = self._split_of(route)
        memory, shown = hands.memory_of(route), None if split is None else hands.as_text(split)
        if memory.split is not None and shown != memory.split:
            self._require_no_fight(route, memory)
        return split

    def give_back(self) -> None:
        """As the port says. A route that is gone has nothing of ours."""
        with self._faults_told():
            for _ in range(ATTEMPTS):
                route = self._cluster.get(self._technology.kind, route_name(self._model))
                if route is None or hands.memory_of(route).split is None:
                    return
                try:
                    self._replaced(hands.with_memory(route, hands.Memory()))
                except Stale:
                    continue
                return
        raise RouterUnavailable(
            f"{self._what} was written by others {ATTEMPTS} times while it was given back"
        )

    # --- reading ---------------------------------------------------------------------------

    def _route(self) -> Json:
        """
        Raises:
            RouterUnavailable: there is none.
            RouteConflict: it is not ours to move.
        """
        technology = self._technology
        route = self._cluster.get(technology.kind, route_name(self._model))
        if route is None:
            raise RouterUnavailable(
                f"{self._what} is not there. It comes from k8s/components/{technology.component}, by Flux "
                f"(flux reconcile kustomization NAME --with-source) or by the next delivery (coalmine "
                f"deliver {self._model}); a rollout goes on once it is back"
            )
        controller = hands.other_controller(route, technology.rules_in)
        if controller is not None:
            raise RouteConflict(
                f"{self._what} belongs to {controller}, which moves it by itself: two hands cannot move one "
                f"route. Take it out of there, or the model out of this environment"
            )
        if technology.rival is not None:
            begins = technology.rival.prefix(self._model, self._cluster.namespace)
            for other in self._cluster.list(technology.rival.kind):
                if str(other["metadata"]["name"]).startswith(begins):
                    raise self._overridden(technology.rival.kind, str(other["metadata"]["name"]))
        return route

    def _overridden(self, by: Kind, name: str) -> RouteConflict:
        return RouteConflict(
            f"{self._what} has no effect: {self._technology.name} routes by the {by.kind} {name} instead. "
            f"Take that one away: kubectl delete {by.full_name} {name} -n {self._cluster.namespace}"
        )

    def _in_force(self, route: Json) -> Json:
        """`route`, or what has become of it by the time that the data plane has accepted it. A refusal is
        waited out as well: what the route names may be a moment younger than the route.

        Raises:
            RouterUnavailable: it was not accepted in time.
        """
        deadline = time.monotonic() + TAKEN_UP_WITHIN_S
        while True:
            against = self._technology.not_in_force(route)
            if against is None:
                return route
            if time.monotonic() > deadline:
                raise RouterUnavailable(self._not_accepted(against))
            time.sleep(LOOK_AGAIN_S)
            route = self._route()

    def _not_accepted(self, against: NotInForce) -> str:
        verb = "is refused" if against.refused else f"was not taken up within {TAKEN_UP_WITHIN_S:g} s"
        return f"{self._what} {verb}, so users go where they went before: {against.why}"

    def _split_of(self, route: Json) -> TrafficSplit | None:
        with self._foreign_told():
            return self._technology.split_of(route, self._model)

    # --- writing ---------------------------------------------------------------------------

    def _as_set(self, route: Json, split: TrafficSplit) -> Json:
        """`route` as the rollout has it by `split`, with what is to be remembered.

        Raises:
            RouteConflict: somebody moved it again after it was set back.
        """
        memory = hands.memory_of(route)
        if memory.split is not None and memory.split != self._text_of(route):
            self._require_no_fight(route, memory)
            moved_by = hands.last_hand(route, self._technology.rules_in)
            memory = replace(memory, restored_after=memory.restored_after | {moved_by})
        memory = replace(memory, split=hands.as_text(split))
        with self._foreign_told():
            changed = self._technology.with_split(route, self._model, split)
        return hands.with_memory(changed, memory)

    def _replaced(self, route: Json) -> Json:
        return self._cluster.replace(self._technology.kind, route)

    def _text_of(self, route: Json) -> str | None:
        """None: the route shows no split."""
        try:
            split = self._technology.split_of(route, self._model)
        except ForeignRoute:
            return None
        return None if split is None else hands.as_text(split)

    def _require_no_fight(self, route: Json, memory: hands.Memory) -> None:
        """route: which shows another split than the rollout's last."""
        hand = hands.last_hand(route, self._technology.rules_in)
        if hand in memory.restored_after:
            raise RouteConflict(
                f"{self._what} was moved by {hand} again after it was set back, and is not fought over: "
                f"users go where {hand} sends them. Stop that, then let the rollout go on: "
                f"kubectl annotate {self._words} {hands.RESTORED_AFTER}-"
            )

    def _require(self, split: TrafficSplit) -> None:
        wanted = {
            Routing.MIRROR: split.mirror_percent > 0,
            Routing.MATCH: split.match is not None,
            Routing.STICKY_HEADER: split.sticky is not None and split.sticky.kind == "header",
            Routing.STICKY_COOKIE: split.sticky is not None and split.sticky.kind == "cookie",
        }
        lacking = [
            routing for routing, is_wanted in wanted.items() if is_wanted and routing not in self.supports()
        ]
        if lacking:
            raise Unsupported(f"{self._technology.name} cannot route {self._model} so: {', '.join(lacking)}")
        if split.mirror_percent and max(split.weights.values()) < 100:
            raise Unsupported(
                f"The requests of {self._model} are copied only while one slot has all of its users, and the "
                f"weights are {dict(split.weights)}. Mirror in a stage of its own, before the first weight."
            )

    # --- in words --------------------------------------------------------------------------

    @property
    def _what(self) -> str:
        kind = self._technology.kind.kind
        return f"The {kind} {route_name(self._model)} in namespace {self._cluster.namespace}"

    @property
    def _words(self) -> str:
        """For kubectl."""
        kind = self._technology.kind.full_name
        return f"{kind} {route_name(self._model)} -n {self._cluster.namespace}"

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except ClusterUnavailable as error:
            raise RouterUnavailable(f"{self._what} cannot be reached: {error}") from error
        except ClusterRefuses as error:
            raise RouterUnavailable(f"{self._what} cannot be read or written: {error}") from error

    @contextmanager
    def _foreign_told(self) -> Iterator[None]:
        try:
            yield
        except ForeignRoute as error:
            raise RouteConflict(
                f"{self._what} is no split of the two slots of {self._model}: {error}. Take the change back: "
                "Git has the route as it should be"
            ) from error
