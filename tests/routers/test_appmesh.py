"""Splits as a VirtualRouter and back, and what its controller says of it, without a cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.rollout.ports import Match, Routing, TrafficSplit, UserKey
from coalmine.routers.appmesh import APP_MESH
from coalmine.routers.routes import ForeignRoute
from coalmine.routers.technology import Json
from coalmine.slots import Slot
from tests.routers.cluster_splits import PEOPLES_HEADER, check_the_rest, read_back, splits

MATCHES = [
    {"prefix": "/v2/models/m"},
    {"prefix": "/old", "headers": [{"name": PEOPLES_HEADER, "match": {"exact": "a"}}]},
]


def target(node: str, weight: int, **more: Any) -> Json:
    return {"virtualNodeRef": {"name": node, **more}, "port": 8080, "weight": weight}


def route(name: str, match: Json, *targets: Json, **more: Any) -> Json:
    http = {"match": match, "action": {"weightedTargets": [*targets]}}
    return {"name": name, "httpRoute": http, **more}


OTHERS = [
    route(
        "testers",
        {**MATCHES[0], "headers": [{"name": "x-coalmine-slot", "match": {"exact": "green"}}]},
        target("m-green", 100),
        priority=1,
    ),
    route("docs", {"prefix": "/docs"}, target("docs", 1)),
    {"name": "tcp", "tcpRoute": {"action": {"weightedTargets": [target("m-blue", 1), target("m-green", 1)]}}},
]


@st.composite
def shared_routes(draw: st.DrawFn, name: str) -> Json:
    targets = [target(f"m-{slot}", draw(st.integers(0, 100))) for slot in draw(st.permutations(list(Slot)))]
    if draw(st.booleans()):
        targets.append(target("m-blue", 5, namespace="elsewhere"))
    more: Json = {"priority": draw(st.integers(1, 1000))} if draw(st.booleans()) else {}
    made = route(name, draw(st.sampled_from(MATCHES)), *targets, **more)
    if draw(st.booleans()):
        made["httpRoute"]["retryPolicy"] = {"maxRetries": 0}
    return made


@st.composite
def routers(draw: st.DrawFn) -> Json:
    others = st.lists(st.sampled_from(OTHERS), max_size=2, unique_by=str)
    listed = [*draw(others), draw(shared_routes("users")), *draw(others)]
    if draw(st.booleans()):
        listed.append(draw(shared_routes("more-users")))
    return router_of(*listed)


def router_of(*listed: Json, **more: Any) -> Json:
    return {
        "metadata": {"name": "m-route", "namespace": "shop", "generation": 3},
        "spec": {"listeners": [{"portMapping": {"port": 80, "protocol": "http"}}], "routes": [*listed]},
        **more,
    }


def is_shared(rule: Json) -> bool:
    targets = rule.get("httpRoute", {}).get("action", {}).get("weightedTargets", [])
    named = {each["virtualNodeRef"]["name"] for each in targets if "namespace" not in each["virtualNodeRef"]}
    return named >= {"m-blue", "m-green"}


def peoples(rule: Json) -> Json:
    kept = copy.deepcopy(rule)
    for each in kept["httpRoute"]["action"]["weightedTargets"]:
        del each["weight"]
    return kept


@given(routers(), splits(APP_MESH))
def test_a_split_is_read_back_from_the_router_that_it_was_written_to(
    router: Json, split: TrafficSplit
) -> None:
    assert read_back(APP_MESH, router, split) == split


@given(routers(), splits(APP_MESH), splits(APP_MESH))
def test_nothing_of_a_split_is_left_after_the_next(
    router: Json, one: TrafficSplit, next_one: TrafficSplit
) -> None:
    before = APP_MESH.with_split(router, "m", one)
    assert APP_MESH.with_split(before, "m", next_one) == APP_MESH.with_split(router, "m", next_one)


@given(routers(), splits(APP_MESH))
def test_what_people_set_elsewhere_is_untouched(router: Json, split: TrafficSplit) -> None:
    check_the_rest(APP_MESH, router, split, is_shared, peoples)


def shared(blue: int, green: int, **more: Any) -> Json:
    return route("users", MATCHES[0], target("m-blue", blue), target("m-green", green), **more)


@pytest.mark.parametrize(("priority", "before"), [(1000, 999), (None, 999), (1, 0)])
def test_chosen_users_have_a_name_and_a_place_before_everybody_else(
    priority: int | None, before: int
) -> None:
    split = TrafficSplit(
        {Slot.BLUE: 100, Slot.GREEN: 0},
        match=Match(UserKey("header", "x-group"), "beta"),
        match_to=Slot.GREEN,
    )
    everybody = shared(100, 0) if priority is None else shared(100, 0, priority=priority)
    chosen, after = APP_MESH.with_split(router_of(everybody), "m", split)["spec"]["routes"]
    assert after == everybody
    asked = {**MATCHES[0], "headers": [{"name": "x-group", "match": {"exact": "beta"}}]}
    assert chosen == route("users-matched", asked, target("m-green", 100), priority=before)


def test_app_mesh_copies_nothing_and_holds_nobody_to_a_slot() -> None:
    assert APP_MESH.supports == {Routing.MATCH}


def test_before_the_first_release_there_is_no_split() -> None:
    assert APP_MESH.split_of(router_of(shared(0, 0)), "m") is None


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        pytest.param([], "leads to both m-blue and m-green", id="no route"),
        pytest.param([OTHERS[2]], "leads to both m-blue and m-green", id="not HTTP"),
        pytest.param([shared(2, 1)], "no whole percent", id="thirds"),
        pytest.param([shared(100, 0), shared(95, 5)], "share the users differently", id="two routes"),
    ],
)
def test_what_is_no_split_of_the_two_slots_is_said(listed: list[Json], words: str) -> None:
    with pytest.raises(ForeignRoute, match=words):
        APP_MESH.split_of(router_of(*listed), "m")


# --- what the controller says ----------------------------------------------------------

ACTIVE = {"type": "VirtualRouterActive", "status": "True"}


def test_what_app_mesh_has_as_it_stands_is_in_force() -> None:
    status = {"observedGeneration": 3, "conditions": [ACTIVE]}
    assert APP_MESH.not_in_force(router_of(shared(100, 0), status=status)) is None


@pytest.mark.parametrize(
    ("status", "refused", "words"),
    [
        pytest.param({}, False, "not passed its present version on", id="nothing said"),
        pytest.param(
            {"observedGeneration": 2, "conditions": [ACTIVE]}, False, "not passed", id="an older version"
        ),
        pytest.param({"observedGeneration": 3}, False, "whether it is active", id="no condition"),
        pytest.param(
            {"observedGeneration": 3, "conditions": [{**ACTIVE, "status": "False"}]},
            True,
            "not active: no reason given",
            id="not active",
        ),
    ],
)
def test_what_app_mesh_does_not_have_is_said(status: Json, refused: bool, words: str) -> None:
    against = APP_MESH.not_in_force(router_of(shared(100, 0), status=status))
    assert against is not None
    assert against.refused is refused
    assert words in against.why


def test_whoever_still_uses_it_is_told_when_it_ended_and_where_to_go() -> None:
    for word in ("2026-09-30", "gateway_api", "istio", "docs/meshes/app-mesh.md"):
        assert word in APP_MESH.warning
