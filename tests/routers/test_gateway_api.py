"""Splits as an HTTPRoute and back, and what controllers say of it, without a cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.routers.routes import ForeignRoute
from coalmine.routers.technology import Json
from coalmine.slots import Slot
from tests.routers.cluster_splits import PEOPLES_HEADER, check_the_rest, read_back, splits

PATHS = [
    {"path": {"type": "PathPrefix", "value": "/v2/models/m"}},
    {"path": {"type": "PathPrefix", "value": "/score"}, "method": "POST"},
    {
        "path": {"type": "Exact", "value": "/old"},
        "headers": [{"type": "Exact", "name": PEOPLES_HEADER, "value": "a"}],
    },
]
OTHERS = [
    {
        "matches": [
            {
                "path": {"type": "PathPrefix", "value": "/v2/models/m"},
                "headers": [{"name": "x-coalmine-slot", "value": "green"}],
            }
        ],
        "backendRefs": [{"name": "m-green", "port": 80}],
    },
    {"matches": [{"path": {"value": "/docs"}}], "backendRefs": [{"name": "docs", "port": 80}]},
    {"matches": [{"path": {"value": "/pinned"}}], "backendRefs": [{"name": "m-blue", "port": 80}]},
    {
        "matches": [{"path": {"value": "/moved"}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}],
    },
]
FILTERS = [
    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}},
    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "audit", "port": 80}, "percent": 3}},
    # A Service of a slot's name, elsewhere.
    {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": {"name": "m-green", "namespace": "elsewhere", "port": 80}},
    },
]


def backend(slot: Slot, weight: int | None = None) -> Json:
    return {"name": f"m-{slot}", "port": 80, **({} if weight is None else {"weight": weight})}


@st.composite
def shared_rules(draw: st.DrawFn) -> Json:
    refs = [
        backend(slot, draw(st.integers(0, 100) | st.none())) for slot in draw(st.permutations(list(Slot)))
    ]
    if draw(st.booleans()):
        refs.append({"name": "m-blue", "namespace": "elsewhere", "port": 80, "weight": 7})
    rule: Json = {"backendRefs": refs}
    if matches := draw(st.lists(st.sampled_from(PATHS), max_size=2, unique_by=str)):
        rule["matches"] = matches
    if filters := draw(st.lists(st.sampled_from(FILTERS), max_size=3, unique_by=str)):
        rule["filters"] = filters
    if draw(st.booleans()):
        rule["timeouts"] = {"request": "5s"}
    return rule


@st.composite
def routes(draw: st.DrawFn) -> Json:
    others = st.lists(st.sampled_from(OTHERS), max_size=2)
    rules = [*draw(others), draw(shared_rules()), *draw(others)]
    if draw(st.booleans()):
        rules += [draw(shared_rules()), *draw(others)]
    return {
        "metadata": {"name": "m-route", "namespace": "shop", "labels": {"team": "risk"}},
        "spec": {"hostnames": ["m.example.com"], "parentRefs": [{"name": "gate"}], "rules": rules},
    }


def is_shared(rule: Json) -> bool:
    named = {ref["name"] for ref in rule.get("backendRefs", []) if "namespace" not in ref}
    return named >= {"m-blue", "m-green"}


def peoples(rule: Json) -> Json:
    kept = copy.deepcopy(rule)
    for ref in kept.get("backendRefs", []):
        ref.pop("weight", None)
    filters = [
        each
        for each in kept.pop("filters", [])
        if each.get("requestMirror", {}).get("backendRef")
        not in [{**backend(slot), "port": 8081} for slot in Slot]
    ]
    return {**kept, "filters": filters}


@given(routes(), splits(GATEWAY_API))
def test_a_split_is_read_back_from_the_route_that_it_was_written_to(route: Json, split: TrafficSplit) -> None:
    assert read_back(GATEWAY_API, route, split) == split


@given(routes(), splits(GATEWAY_API), splits(GATEWAY_API))
def test_nothing_of_a_split_is_left_after_the_next(
    route: Json, one: TrafficSplit, next_one: TrafficSplit
) -> None:
    before = GATEWAY_API.with_split(route, "m", one)
    assert GATEWAY_API.with_split(before, "m", next_one) == GATEWAY_API.with_split(route, "m", next_one)


@given(routes(), splits(GATEWAY_API))
def test_what_people_set_elsewhere_is_untouched(route: Json, split: TrafficSplit) -> None:
    check_the_rest(GATEWAY_API, route, split, is_shared, peoples)


def route_of(*rules: Json, **metadata: Any) -> Json:
    return {
        "metadata": {"name": "m-route", "namespace": "shop", **metadata},
        "spec": {"parentRefs": [{"name": "gate"}], "rules": list(rules)},
    }


def shared(blue: int, green: int, **more: Any) -> Json:
    return {
        "matches": PATHS[:1],
        "backendRefs": [backend(Slot.BLUE, blue), backend(Slot.GREEN, green)],
        **more,
    }


def copying(to: str, **more: Any) -> list[Json]:
    return [
        {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": to, "port": 8081}, **more}},
    ]


def test_a_weight_of_nothing_is_written_too() -> None:
    rule = GATEWAY_API.with_split(route_of(shared(1, 1)), "m", TrafficSplit.all_to(Slot.BLUE))["spec"][
        "rules"
    ][0]
    assert [ref["weight"] for ref in rule["backendRefs"]] == [100, 0]


def test_chosen_users_come_last_and_move_no_other_rule() -> None:
    """The most specific rule is heard first, wherever it stands; of two alike the first, as testers are."""
    split = TrafficSplit(
        {Slot.BLUE: 100, Slot.GREEN: 0},
        match=Match(UserKey("header", "x-group"), "beta"),
        match_to=Slot.GREEN,
    )
    written = GATEWAY_API.with_split(route_of(OTHERS[0], shared(100, 0)), "m", split)
    testers, everybody, chosen = written["spec"]["rules"]
    assert testers == OTHERS[0]
    assert chosen == {
        "matches": [{**PATHS[0], "headers": [{"type": "Exact", "name": "x-group", "value": "beta"}]}],
        "backendRefs": [backend(Slot.GREEN, 100)],
    }
    assert everybody == shared(100, 0)


def test_a_copy_of_everything_is_asked_for_in_words_that_older_versions_know() -> None:
    split = TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=100)
    rule = GATEWAY_API.with_split(route_of(shared(100, 0)), "m", split)["spec"]["rules"][0]
    assert rule["filters"] == copying("m-green")


def test_before_the_first_release_there_is_no_split() -> None:
    assert GATEWAY_API.split_of(route_of(shared(0, 0)), "m") is None


def test_weights_are_shares_whatever_their_sum() -> None:
    assert GATEWAY_API.split_of(route_of(shared(3, 1)), "m") == TrafficSplit.canary(Slot.GREEN, 25)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        pytest.param([], "leads to both m-blue and m-green", id="no rule"),
        pytest.param(
            [{"backendRefs": [backend(Slot.BLUE, 100)]}],
            "leads to both m-blue and m-green",
            id="one slot alone",
        ),
        pytest.param([shared(2, 1)], "no whole percent", id="thirds"),
        pytest.param([shared(100, 0), shared(95, 5)], "share the users differently", id="two rules"),
        pytest.param(
            [{"backendRefs": [*shared(50, 40)["backendRefs"], {"name": "old", "port": 80, "weight": 10}]}],
            "somewhere else",
            id="a third",
        ),
        pytest.param(
            [shared(100, 0, filters=copying("m-blue"))], "copies to blue", id="copies to who has users"
        ),
        pytest.param(
            [shared(100, 0, filters=copying("m-green", fraction={"numerator": 1}))],
            "by a fraction",
            id="copies by a fraction",
        ),
        pytest.param(
            [shared(100, 0, filters=copying("m-green") + copying("m-green"))], "several", id="copies twice"
        ),
    ],
)
def test_what_is_no_split_of_the_two_slots_is_said(rules: list[Json], words: str) -> None:
    with pytest.raises(ForeignRoute, match=words):
        GATEWAY_API.split_of(route_of(*rules), "m")


def test_a_route_with_no_rule_for_both_slots_takes_no_split() -> None:
    with pytest.raises(ForeignRoute, match="m-blue and m-green"):
        GATEWAY_API.with_split(route_of(OTHERS[1]), "m", TrafficSplit.all_to(Slot.BLUE))


# --- what the controllers say ----------------------------------------------------------


def condition(kind: str, status: str = "True", generation: int | None = 3) -> Json:
    said = {"type": kind, "status": status, "reason": "Because", "message": "of this"}
    return said if generation is None else {**said, "observedGeneration": generation}


def parent(*conditions: Json, name: str = "gate", **more: Any) -> Json:
    return {
        "parentRef": {"name": name, **more},
        "controllerName": "example.com/c",
        "conditions": [*conditions],
    }


GOOD = [condition("Accepted"), condition("ResolvedRefs")]


@pytest.mark.parametrize(
    ("parents", "refused", "words"),
    [
        pytest.param([], False, "no controller has answered for Gateway gate", id="nobody"),
        pytest.param([parent(*GOOD, name="other")], False, "no controller has answered", id="another's"),
        pytest.param(
            [parent(*GOOD, namespace="elsewhere")], False, "no controller has answered", id="elsewhere"
        ),
        pytest.param(
            [parent(condition("Accepted", generation=2), condition("ResolvedRefs"))],
            False,
            "not said Accepted of its present version",
            id="an older version",
        ),
        pytest.param(
            [parent(condition("Accepted", generation=None), condition("ResolvedRefs"))],
            False,
            "not said Accepted",
            id="no version",
        ),
        pytest.param([parent(condition("Accepted"))], False, "not said ResolvedRefs", id="references unsaid"),
        pytest.param(
            [parent(condition("Accepted", "False"), condition("ResolvedRefs"))],
            True,
            "example.com/c for Gateway gate says Accepted False, Because: of this",
            id="not accepted",
        ),
        pytest.param(
            [parent(condition("Accepted"), condition("ResolvedRefs", "False"))],
            True,
            "ResolvedRefs False",
            id="no such Service",
        ),
        pytest.param(
            [parent(*GOOD, condition("PartiallyInvalid"))], True, "leaves a part of it out", id="partly"
        ),
        pytest.param([parent(*GOOD), parent(condition("Accepted", "False"))], True, "False", id="one of two"),
    ],
)
def test_what_is_not_in_force_is_said_with_the_controllers_words(
    parents: list[Json], refused: bool, words: str
) -> None:
    route = {**route_of(shared(100, 0), generation=3), "status": {"parents": parents}}
    against = GATEWAY_API.not_in_force(route)
    assert against is not None
    assert against.refused is refused
    assert words in against.why


@pytest.mark.parametrize(
    "parents",
    [
        pytest.param([parent(*GOOD)], id="as written"),
        pytest.param(
            [parent(*GOOD, group="gateway.networking.k8s.io", kind="Gateway", namespace="shop")],
            id="with its defaults",
        ),
        pytest.param([parent(*GOOD, condition("PartiallyInvalid", "False"))], id="wholly valid"),
        pytest.param(
            [parent(*GOOD), parent(condition("Accepted", "False"), name="gone")], id="a parent it had before"
        ),
    ],
)
def test_what_every_parent_accepts_is_in_force(parents: list[Json]) -> None:
    route = {**route_of(shared(100, 0), generation=3), "status": {"parents": parents}}
    assert GATEWAY_API.not_in_force(route) is None


def test_a_route_of_several_gateways_is_in_force_once_all_have_it() -> None:
    route = {**route_of(shared(100, 0), generation=3), "status": {"parents": [parent(*GOOD)]}}
    route["spec"]["parentRefs"].append({"name": "inner", "sectionName": "https"})
    against = GATEWAY_API.not_in_force(route)
    assert against is not None
    assert "Gateway inner" in against.why


def test_a_route_of_no_gateway_is_never_in_force() -> None:
    route = route_of(shared(100, 0), generation=3)
    route["spec"]["parentRefs"] = []
    against = GATEWAY_API.not_in_force(route)
    assert against is not None
    assert against.refused
