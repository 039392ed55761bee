"""Splits as routes and back, without an Envoy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.routers.routes import cookies_given, is_of, model_of, routes_of, split_of
from coalmine.slots import Slot

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.*+$", min_size=1, max_size=12)
KEYS = st.builds(UserKey, st.sampled_from(["header", "cookie"]), TOKENS)


@st.composite
def splits(draw: st.DrawFn) -> TrafficSplit:
    weight = draw(st.integers(0, 100))
    split = TrafficSplit({Slot.BLUE: weight, Slot.GREEN: 100 - weight}, sticky=draw(st.none() | KEYS))
    if weight in (0, 100):
        split = replace(split, mirror_percent=draw(st.integers(0, 100)))
    if draw(st.booleans()):
        match = draw(
            st.builds(Match, KEYS, st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1))
        )
        split = replace(split, match=match, match_to=draw(st.sampled_from(Slot)))
    return split


@given(splits(), st.sets(TOKENS, max_size=2))
def test_a_split_is_read_back_from_its_routes_whatever_cookies_were_given_before(
    split: TrafficSplit, given_before: set[str]
) -> None:
    others = routes_of("m-2", TrafficSplit.all_to(Slot.BLUE), 1.0)
    routes = [*others, *routes_of("m", split, 1.0, given_before)]
    assert split_of("m", routes) == split
    assert split_of("m-2", routes) == TrafficSplit.all_to(Slot.BLUE)
    assert split_of("unknown", routes) is None


def test_a_cookie_once_given_is_known_through_any_number_of_splits() -> None:
    sticky = TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50}, sticky=UserKey("cookie", "uid"))
    routes = routes_of("m", sticky, 1.0)
    for split in (TrafficSplit.all_to(Slot.BLUE), TrafficSplit.canary(Slot.GREEN, 5)):
        routes = routes_of("m", split, 1.0, cookies_given(routes))
        assert cookies_given(routes) == {"uid"}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/m", "m"),
        ("/v2/models/m/feedback", "m"),
        ("/v2/models/m-2", "m-2"),
        ("/healthz", ""),
        ("/", ""),
    ],
)
def test_a_route_belongs_to_the_model_whose_path_it_takes(path: str, model: str) -> None:
    route = {"match": {"path_separated_prefix": path}}
    assert model_of(route) == model
    assert is_of(route, "m") == (model == "m")
