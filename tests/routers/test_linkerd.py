"""What differs from Gateway API where Linkerd routes, without a cluster."""

from __future__ import annotations

import pytest
from hypothesis import given

from coalmine.cluster.kinds import SERVICE_PROFILE
from coalmine.rollout.ports import Routing, TrafficSplit
from coalmine.routers.linkerd import LINKERD
from coalmine.routers.technology import Json
from tests.routers.cluster_splits import read_back, splits
from tests.routers.test_gateway_api import routes

APEX = {"group": "", "kind": "Service", "name": "m-apex", "port": 80}


def said(*conditions: Json) -> Json:
    return {
        "metadata": {"name": "m-route", "namespace": "shop", "generation": 3},
        "spec": {"parentRefs": [APEX], "rules": []},
        "status": {
            "parents": [
                {
                    "parentRef": {**APEX, "namespace": "shop"},
                    "controllerName": "linkerd.io/policy-controller",
                    "conditions": [*conditions],
                }
            ]
        },
    }


def condition(kind: str, status: str = "True", **more: int) -> Json:
    return {"type": kind, "status": status, "reason": kind, "message": "", **more}


@given(routes(), splits(LINKERD))
def test_a_split_is_read_back_from_the_route_that_it_was_written_to(route: Json, split: TrafficSplit) -> None:
    assert read_back(LINKERD, route, split) == split


def test_linkerd_copies_nothing_and_holds_nobody_to_a_slot() -> None:
    assert LINKERD.supports == {Routing.MATCH}


def test_linkerds_word_counts_though_it_names_no_version() -> None:
    assert LINKERD.not_in_force(said(condition("Accepted"), condition("ResolvedRefs"))) is None


def test_where_it_names_a_version_that_one_counts() -> None:
    older = said(condition("Accepted", observedGeneration=2), condition("ResolvedRefs"))
    against = LINKERD.not_in_force(older)
    assert against is not None
    assert not against.refused


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
def test_what_linkerd_refuses_is_not_in_force(kind: str) -> None:
    conditions = {
        each: condition(each, "False" if each == kind else "True") for each in ("Accepted", "ResolvedRefs")
    }
    against = LINKERD.not_in_force(said(*conditions.values()))
    assert against is not None
    assert against.refused


def test_the_profile_that_would_take_the_requests_is_the_one_of_the_apex() -> None:
    assert LINKERD.rival is not None
    assert LINKERD.rival.kind is SERVICE_PROFILE
    begins = LINKERD.rival.prefix("m", "shop")
    assert "m-apex.shop.svc.cluster.local".startswith(begins)
    assert "m-apex.shop.svc.example.internal".startswith(begins)
    assert not "mm-apex.shop.svc.cluster.local".startswith(begins)
