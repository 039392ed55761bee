"""One model's split as Envoy's routes, and back. Pure.

A model has several routes, tried in this order; all but the last have a name in brackets:

    labels of m in blue, green    /feedback with the header `x-coalmine-slot`: to the slot that answered
    testers of m in blue, green   whatever else carries that header
    matched users of m            `match`
    new users of m                `sticky` by cookie, for users who have none yet: they are given one
    cookie C of m                 a cookie of ours that an earlier split gave: taken back
    m                             everybody else

Copies are not sent to the slot itself but to a listener inside Envoy (`COPIES`), which sends them
on: so a copy is a request like any other, and is counted as one, by the same access log.

Law: `split_of(m, routes_of(m, split, ...)) == split`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from coalmine.errors import Unsupported
from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.rollout_spec import SLOT_HEADER
from coalmine.slots import Slot

Json = dict[str, Any]

COPIES = "copies"  # the listener, and the cluster that leads to it
COPY_FOR_HEADER = "x-coalmine-copy-for"  # tells the listener which cluster a copy is meant for
# Values that Envoy gives a sticky cookie begin so: nobody else's cookie is ever taken back.
GIVEN = "coalmine."


class ForeignRoute(Exception):
    """Another hand was there: what stands in the routes is no split of the model's two slots."""


@dataclass(frozen=True)
class Cookie:
    """A cookie that splits by `sticky` give to new users."""

    name: str
    model: str

    @property
    def set_header(self) -> str:
        return f"{self._of(f'{GIVEN}%REQ(X-REQUEST-ID)%')}; HttpOnly; SameSite=Lax"

    @property
    def unset_header(self) -> str:
        return f"{self._of('')}; Max-Age=0"

    def _of(self, value: str) -> str:
        # A cookie of the same name that an application gives has another path, and is another cookie.
        return f"{self.name}={value}; Path={_path(self.model)}"


def cluster_name(model: str, slot: Slot) -> str:
    return f"{model}-{slot}"


def is_of(route: Json, model: str) -> bool:
    """Whether `route` takes requests to `model`, and to no other."""
    path = _path_of(route)
    return path == _path(model) or path.startswith(f"{_path(model)}/")


def model_of(route: Json) -> str:
    """The model whose requests `route` takes, "" where they are not one model's."""
    parts = _path_of(route).split("/")
    return parts[3] if parts[:3] == ["", "v2", "models"] and len(parts) > 3 else ""


# --- a split as routes -----------------------------------------------------------------


def routes_of(model: str, split: TrafficSplit, timeout_s: float, given: Iterable[str] = ()) -> list[Json]:
    """
    timeout_s: after which a request is answered 504.
    given: names of the cookies that earlier splits gave (`cookies_given`).

    Raises:
        Unsupported: copies while both slots have users.
    """
    if split.mirror_percent and max(split.weights.values()) < 100:
        raise Unsupported(
            f"Envoy copies the requests of {model} only while one slot has all of its users, and the weights "
            f"are {dict(split.weights)}. Mirror in a stage of its own, before the first weight."
        )
    everybody = _Everybody(model, split, f"{timeout_s:.3f}s")
    routes = [everybody.labels(slot) for slot in Slot]
    routes += [everybody.testers(slot) for slot in Slot]
    if split.match is not None:
        routes.append(everybody.matched(split.match))
    sticky = split.sticky.name if split.sticky is not None and split.sticky.kind == "cookie" else None
    if sticky is not None:
        routes.append(everybody.new_users(Cookie(sticky, model)))
    routes += [everybody.taking_back(Cookie(name, model)) for name in sorted(set(given) - {sticky})]
    return [*routes, everybody.route(model)]


def cookies_given(routes: Sequence[Json]) -> set[str]:
    """The names of the cookies that users may have been given by these routes or by earlier ones."""
    return {
        str(cookie["name"])
        for route in routes
        if route.get("response_headers_to_add")
        for cookie in route["match"].get("cookies", [])
    }


@dataclass(frozen=True)
class _Everybody:
    """Random by weight, and no retries: a failure must reach the user to be counted as one."""

    model: str
    split: TrafficSplit
    timeout: str

    def route(self, name: str, match: Json | None = None, answer: Json | None = None) -> Json:
        return {
            "name": name,
            "match": {"path_separated_prefix": _path(self.model), **(match or {})},
            "route": {
                "weighted_clusters": {
                    # In the same order always: of a hash, the part below the first weight goes to the first.
                    # As that weight changes, those who were with the slot that grows stay with it.
                    "clusters": [
                        {"name": cluster_name(self.model, slot), "weight": self.split.weights.get(slot, 0)}
                        for slot in Slot
                    ],
                    **({"use_hash_policy": True} if self.split.sticky is not None else {}),
                },
                "timeout": self.timeout,
                **_hash_policy(self.split.sticky),
                **self._copied(max(Slot, key=lambda slot: self.split.weights.get(slot, 0))),
            },
            **(answer or {}),
        }

    def labels(self, slot: Slot) -> Json:
        """A late label belongs to the slot that answered, whatever the weights are by then; while
        requests are copied, both slots answered."""
        return {
            "name": f"(labels of {self.model} in {slot})",
            "match": {"path": f"{_path(self.model)}/feedback", "headers": [_named(slot)]},
            "route": {
                "cluster": cluster_name(self.model, slot),
                **self._copied(slot, all_of_them=True),
            },
        }

    def testers(self, slot: Slot) -> Json:
        return {
            "name": f"(testers of {self.model} in {slot})",
            "match": {"path_separated_prefix": _path(self.model), "headers": [_named(slot)]},
            "route": {"cluster": cluster_name(self.model, slot), "timeout": self.timeout},
        }

    def matched(self, match: Match) -> Json:
        slot = self.split.match_to
        assert slot is not None
        return {
            "name": f"(matched users of {self.model})",
            "match": {"path_separated_prefix": _path(self.model), **_matched(match)},
            "route": {
                "cluster": cluster_name(self.model, slot),
                "timeout": self.timeout,
                **self._copied(slot),
            },
        }

    def new_users(self, cookie: Cookie) -> Json:
        absent = {"name": cookie.name, "string_match": {"safe_regex": {"regex": ".*"}}, "invert_match": True}
        return self.route(
            f"(new users of {self.model})", {"cookies": [absent]}, _answered_with(cookie.set_header)
        )

    def taking_back(self, cookie: Cookie) -> Json:
        ours = {"name": cookie.name, "string_match": {"prefix": GIVEN}}
        return self.route(
            f"(cookie {cookie.name} of {self.model})",
            {"cookies": [ours]},
            _answered_with(cookie.unset_header),
        )

    def _copied(self, answered_by: Slot, all_of_them: bool = False) -> Json:
        if self.split.mirror_percent == 0:
            return {}
        percent = 100 if all_of_them else self.split.mirror_percent
        to = cluster_name(self.model, answered_by.other)
        told = {
            "header": {"key": COPY_FOR_HEADER, "value": to},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        return {
            "request_mirror_policies": [
                {
                    "cluster": COPIES,
                    "runtime_fraction": {"default_value": {"numerator": percent}},
                    "disable_shadow_host_suffix_append": True,
                    "request_headers_mutations": [{"append": told}],
                }
            ]
        }


def _hash_policy(sticky: UserKey | None) -> Json:
    match sticky:
        case None:
            return {}
        case UserKey("header", name):
            return {"hash_policy": [{"header": {"header_name": name}}]}
        case UserKey("cookie", name):
            # A new user is drawn by the value of the cookie that the answer gives, so that the next request,
            # which brings it, is drawn alike.
            value = {"pattern": {"regex": "^.*$"}, "substitution": rf"{GIVEN}\0"}
            return {
                "hash_policy": [
                    {"cookie": {"name": name}, "terminal": True},
                    {"header": {"header_name": "x-request-id", "regex_rewrite": value}},
                ]
            }
    raise AssertionError(sticky)


def _matched(match: Match) -> Json:
    kind = "headers" if match.key.kind == "header" else "cookies"
    return {kind: [{"name": match.key.name, "string_match": {"exact": match.value}}]}


def _named(slot: Slot) -> Json:
    return {"name": SLOT_HEADER, "string_match": {"exact": slot.value}}


def _answered_with(cookie: str) -> Json:
    return {"response_headers_to_add": [{"header": {"key": "set-cookie", "value": cookie}}]}


def _path(model: str) -> str:
    return f"/v2/models/{model}"


def _path_of(route: Json) -> str:
    match = route["match"]
    return str(match.get("path_separated_prefix") or match.get("path") or match.get("prefix") or "")


# --- routes as a split -----------------------------------------------------------------


def split_of(model: str, routes: Sequence[Json]) -> TrafficSplit | None:
    """What all `routes`, as Envoy reports them, make of `model`'s requests; None where none is its.

    Raises:
        ForeignRoute: says what was found. The routes must be the ones that some split has; only the
            timeout is not looked at.
    """
    ours = [route for route in routes if is_of(route, model)]
    if not ours:
        return None
    before = routes[: routes.index(ours[0])]
    taking = [route for route in before if _path(model).startswith(_path_of(route))]
    if taking:
        raise ForeignRoute(f"the route {taking[0].get('name', taking[0]['match'])} takes its requests away")
    try:
        split = _read(model, {str(route.get("name")): route for route in ours})
        expected = routes_of(model, split, 0, cookies_given(ours))
    except (KeyError, IndexError, TypeError, ValueError, Unsupported) as error:
        raise ForeignRoute(f"it goes to {_destination(ours[-1])}") from error
    if [_comparable(route) for route in ours] != [_comparable(route) for route in expected]:
        different = [route for route in ours if _comparable(route) not in map(_comparable, expected)]
        named = ", ".join(str(route.get("name", route["match"])) for route in different) or "their order"
        raise ForeignRoute(f"its routes are not as any split has them ({named})")
    return split


def _read(model: str, routes: dict[str, Json]) -> TrafficSplit:
    action = routes[model]["route"]
    weights = {each["name"]: each.get("weight", 0) for each in action["weighted_clusters"]["clusters"]}
    mirrored = action.get("request_mirror_policies")
    matched = routes.get(f"(matched users of {model})")
    clusters = {cluster_name(model, slot): slot for slot in Slot}
    return TrafficSplit(
        weights={clusters[name]: weight for name, weight in weights.items()},
        mirror_percent=mirrored[0]["runtime_fraction"]["default_value"]["numerator"] if mirrored else 0,
        match=_read_match(matched["match"]) if matched else None,
        match_to=clusters[matched["route"]["cluster"]] if matched else None,
        sticky=_read_sticky(action["hash_policy"][0]) if "hash_policy" in action else None,
    )


def _read_match(match: Json) -> Match:
    if "headers" in match:
        (header,) = match["headers"]
        return Match(UserKey("header", header["name"]), header["string_match"]["exact"])
    (cookie,) = match["cookies"]
    return Match(UserKey("cookie", cookie["name"]), cookie["string_match"]["exact"])


def _read_sticky(policy: Json) -> UserKey:
    if "cookie" in policy:
        return UserKey("cookie", policy["cookie"]["name"])
    return UserKey("header", policy["header"]["header_name"])


def _destination(route: Json) -> object:
    action = route.get("route", {})
    clusters = action.get("weighted_clusters", {}).get("clusters", [])
    return {each["name"]: each.get("weight", 0) for each in clusters} or action or "no cluster"


def _comparable(value: Any) -> Any:
    """Without what Envoy leaves out of a dump because it is the default, and without timeouts."""
    if isinstance(value, dict):
        kept = {key: _comparable(each) for key, each in value.items() if key != "timeout"}
        return {key: each for key, each in kept.items() if each not in (None, False, "", [], {})}
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    return value
