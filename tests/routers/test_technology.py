"""A cookie as one of several in a header."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.rollout.ports import Match, UserKey
from coalmine.routers.technology import cookie_match, cookie_pattern
from tests.routers.cluster_splits import NAMES, VALUES

COOKIES = st.builds(Match, st.builds(UserKey, st.just("cookie"), NAMES), VALUES)


@given(COOKIES)
def test_a_cookie_is_read_back_from_its_pattern(match: Match) -> None:
    assert cookie_match(cookie_pattern(match)) == match


@given(
    COOKIES, st.sampled_from(["", "a=1; ", "a=1;", "b=2; a=1;  "]), st.sampled_from(["", "; c=3", ";c=3;d=4"])
)
def test_a_cookie_is_found_wherever_it_stands(match: Match, before: str, after: str) -> None:
    assert re.fullmatch(cookie_pattern(match), f"{before}{match.key.name}={match.value}{after}")


@pytest.mark.parametrize(
    "cookies",
    ["group=be.ta", "group=be.ta+2", "group=bexta+", "mygroup=be.ta+", "a=group=be.ta+", "Group=be.ta+", ""],
)
def test_no_other_cookie_is_taken_for_it(cookies: str) -> None:
    pattern = cookie_pattern(Match(UserKey("cookie", "group"), "be.ta+"))
    assert not re.search(pattern, cookies)


@pytest.mark.parametrize("pattern", ["", "beta", "^beta$", r"^(.*;\s*)?beta(;.*)?$"])
def test_a_pattern_that_people_wrote_is_no_cookie_of_ours(pattern: str) -> None:
    assert cookie_match(pattern) is None
