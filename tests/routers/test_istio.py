"""Splits as a VirtualService and back, and what istiod says of it, without a cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.routers.istio import ISTIO
from coalmine.routers.routes import ForeignRoute
from coalmine.routers.technology import Json
from coalmine.slots import Slot
from tests.routers.cluster_splits import PEOPLES_HEADER, check_the_rest, read_back, splits

MATCHES = [
    {"uri": {"exact": "/v2/models/m"}},
    {"uri": {"prefix": "/v2/models/m/"}, "method": {"exact": "POST"}},
    {"uri": {"prefix": "/old"}, "headers": {PEOPLES_HEADER: {"exact": "a"}}},
]
HOSTS = ["m-{}", "m-{}.shop", "m-{}.shop.svc.cluster.local"]
OTHERS = [
    {
        "match": [{**MATCHES[0], "headers": {"x-coalmine-slot": {"exact": "green"}}}],
        "route": [{"destination": {"host": "m-green"}}],
    },
    {"match": [{"uri": {"prefix": "/docs"}}], "route": [{"destination": {"host": "docs"}}]},
    {"match": [{"uri": {"prefix": "/pinned"}}], "route": [{"destination": {"host": "m-blue"}}]},
    {"match": [{"uri": {"prefix": "/moved"}}], "redirect": {"uri": "/new"}},
]
MIRRORS = [
    {"destination": {"host": "audit"}, "percentage": {"value": 1.5}},
    {"destination": {"host": "m-green.elsewhere"}},
    {"destination": {"host": "m-green", "subset": "canary"}},
]
NOBODY = {"destination": {"host": "m-blue", "subset": "nobody"}, "weight": 100}


@st.composite
def shared_entries(draw: st.DrawFn) -> Json:
    host = draw(st.sampled_from(HOSTS))
    routes = [
        {
            "destination": {"host": host.format(slot), "port": {"number": 80}},
            "weight": draw(st.integers(0, 100)),
        }
        for slot in draw(st.permutations(list(Slot)))
    ]
    if draw(st.booleans()):
        routes.append(NOBODY)
    entry: Json = {"route": routes}
    if matches := draw(st.lists(st.sampled_from(MATCHES), max_size=2, unique_by=str)):
        entry["match"] = matches
    if mirrors := draw(st.lists(st.sampled_from(MIRRORS), max_size=3, unique_by=str)):
        entry["mirrors"] = mirrors
    if draw(st.booleans()):
        entry |= {"name": "users", "timeout": "5s", "retries": {"attempts": 0}}
    return entry


@st.composite
def routes(draw: st.DrawFn) -> Json:
    others = st.lists(st.sampled_from(OTHERS), max_size=2)
    entries = [*draw(others), draw(shared_entries()), *draw(others)]
    if draw(st.booleans()):
        entries += [draw(shared_entries()), *draw(others)]
    return {
        "metadata": {"name": "m-route", "namespace": "shop", "labels": {"team": "risk"}},
        "spec": {"hosts": ["m.example.com"], "gateways": ["gate"], "http": entries, "exportTo": ["."]},
    }


def is_shared(entry: Json) -> bool:
    hosts = {
        each["destination"]["host"].split(".")[0]
        for each in entry.get("route", [])
        if "subset" not in each["destination"]
    }
    return hosts >= {"m-blue", "m-green"}


def peoples(entry: Json) -> Json:
    kept = copy.deepcopy(entry)
    for each in kept.get("route", []):
        each.pop("weight", None)
    return {**kept, "mirrors": [each for each in kept.pop("mirrors", []) if each in MIRRORS]}


@given(routes(), splits(ISTIO))
def test_a_split_is_read_back_from_the_route_that_it_was_written_to(route: Json, split: TrafficSplit) -> None:
    assert read_back(ISTIO, route, split) == split


@given(routes(), splits(ISTIO), splits(ISTIO))
def test_nothing_of_a_split_is_left_after_the_next(
    route: Json, one: TrafficSplit, next_one: TrafficSplit
) -> None:
    before = ISTIO.with_split(route, "m", one)
    assert ISTIO.with_split(before, "m", next_one) == ISTIO.with_split(route, "m", next_one)


@given(routes(), splits(ISTIO))
def test_what_people_set_elsewhere_is_untouched(route: Json, split: TrafficSplit) -> None:
    check_the_rest(ISTIO, route, split, is_shared, peoples)


@given(routes(), splits(ISTIO))
def test_the_weights_of_both_slots_are_written_always_and_sum_to_100(
    route: Json, split: TrafficSplit
) -> None:
    for entry in ISTIO.with_split(route, "m", split)["spec"]["http"]:
        if is_shared(entry):
            assert sum(each["weight"] for each in entry["route"]) == 100


def route_of(*entries: Json, **more: Any) -> Json:
    return {
        "metadata": {"name": "m-route", "namespace": "shop", "generation": 3},
        "spec": {"http": [*entries]},
        **more,
    }


def shared(blue: int, green: int, *others: Json, **more: Any) -> Json:
    routes = [
        {"destination": {"host": "m-blue"}, "weight": blue},
        {"destination": {"host": "m-green"}, "weight": green},
        *others,
    ]
    return {"match": MATCHES[:1], "route": routes, **more}


def copying(host: str, percent: float) -> list[Json]:
    return [{"destination": {"host": host}, "percentage": {"value": percent}}]


def test_copies_go_to_the_port_where_servers_count_them_as_copies() -> None:
    split = TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=20)
    (entry,) = ISTIO.with_split(route_of(shared(100, 0)), "m", split)["spec"]["http"]
    (mirror,) = entry["mirrors"]
    assert mirror["destination"]["port"] == {"number": 8081}
    assert mirror["percentage"] == {"value": 20}


def test_chosen_users_stand_before_everybody_else_and_after_the_testers() -> None:
    split = TrafficSplit(
        {Slot.BLUE: 100, Slot.GREEN: 0},
        match=Match(UserKey("header", "x-group"), "beta"),
        match_to=Slot.GREEN,
    )
    written = ISTIO.with_split(route_of(OTHERS[0], shared(100, 0, retries={"attempts": 0})), "m", split)
    testers, chosen, everybody = written["spec"]["http"]
    assert testers == OTHERS[0]
    assert chosen == {
        "match": [{**MATCHES[0], "headers": {"x-group": {"exact": "beta"}}}],
        "route": [{"destination": {"host": "m-green"}}],
        "retries": {"attempts": 0},
    }
    assert everybody == shared(100, 0, retries={"attempts": 0})


def test_before_the_first_release_there_is_no_split_and_the_weights_have_a_sum_all_the_same() -> None:
    assert ISTIO.split_of(route_of(shared(0, 0, NOBODY)), "m") is None


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        pytest.param([], "leads to both m-blue and m-green", id="no entry"),
        pytest.param([shared(2, 1)], "no whole percent", id="thirds"),
        pytest.param([shared(100, 0), shared(95, 5)], "share the users differently", id="two entries"),
        pytest.param(
            [shared(50, 40, {"destination": {"host": "old"}, "weight": 10})], "somewhere else", id="a third"
        ),
        pytest.param(
            [shared(100, 0, mirrors=copying("m-blue", 1))], "copies to blue", id="copies to who has users"
        ),
        pytest.param(
            [shared(100, 0, mirrors=copying("m-green", 0.5))], "no whole percent", id="half a percent"
        ),
        pytest.param([shared(100, 0, mirrors=copying("m-green", 1) * 2)], "several times", id="copies twice"),
        pytest.param([shared(100, 0, mirror={"host": "m-green"})], "by `mirror`", id="copies in other words"),
    ],
)
def test_what_is_no_split_of_the_two_slots_is_said(entries: list[Json], words: str) -> None:
    with pytest.raises(ForeignRoute, match=words):
        ISTIO.split_of(route_of(*entries), "m")


def test_copies_that_people_have_in_the_old_words_are_not_lost_but_said() -> None:
    split = TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=5)
    with pytest.raises(ForeignRoute, match="write `mirrors`"):
        ISTIO.with_split(route_of(shared(100, 0, mirror={"host": "audit"})), "m", split)


# --- what istiod says ------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"observedGeneration": "3"}, id="its present version"),
        pytest.param(
            {"validationMessages": [{"level": "WARNING", "type": {"code": "IST0109"}}]}, id="a warning"
        ),
    ],
)
def test_what_istiod_does_not_object_to_is_in_force(status: Json) -> None:
    assert ISTIO.not_in_force(route_of(shared(100, 0), status=status)) is None


@pytest.mark.parametrize(
    ("status", "refused", "words"),
    [
        pytest.param(
            {"observedGeneration": 2}, False, "not looked at its present version", id="an older version"
        ),
        pytest.param(
            {
                "observedGeneration": 3,
                "validationMessages": [
                    {"level": "ERROR", "type": {"code": "IST0101", "name": "ReferencedResourceNotFound"}}
                ],
            },
            True,
            "IST0101 ReferencedResourceNotFound",
            id="an error",
        ),
    ],
)
def test_what_istiod_objects_to_is_said(status: Json, refused: bool, words: str) -> None:
    against = ISTIO.not_in_force(route_of(shared(100, 0), status=status))
    assert against is not None
    assert against.refused is refused
    assert words in against.why
