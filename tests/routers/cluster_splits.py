"""What the routes of a cluster are tried with: splits, and what people write around them."""

from __future__ import annotations

import copy
from collections.abc import Callable

from hypothesis import strategies as st

from coalmine.rollout.ports import Match, Routing, TrafficSplit, UserKey
from coalmine.routers.technology import Json, Technology
from coalmine.slots import Slot

# As `rollout.users` takes them; people's own rules, below, ask for other headers.
NAMES = st.text("abcXYZ0189-_.*+$^|~!#%&'`", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(codec="ascii", min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20
)
MATCHES = st.builds(Match, st.builds(UserKey, st.sampled_from(["header", "cookie"]), NAMES), VALUES)
PEOPLES_HEADER = "x-peoples"


@st.composite
def splits(draw: st.DrawFn, technology: Technology) -> TrafficSplit:
    weight = draw(st.integers(0, 100))
    weights = {Slot.BLUE: weight, Slot.GREEN: 100 - weight}
    mirror_percent = 0
    if weight in (0, 100) and Routing.MIRROR in technology.supports:
        mirror_percent = draw(st.integers(0, 100))
    if draw(st.booleans()):
        return TrafficSplit(
            weights, mirror_percent, match=draw(MATCHES), match_to=draw(st.sampled_from(Slot))
        )
    return TrafficSplit(weights, mirror_percent)


def read_back(technology: Technology, route: Json, split: TrafficSplit) -> TrafficSplit | None:
    return technology.split_of(technology.with_split(route, "m", split), "m")


def check_the_rest(
    technology: Technology,
    route: Json,
    split: TrafficSplit,
    is_shared: Callable[[Json], bool],
    peoples: Callable[[Json], Json],
) -> None:
    """Nothing but the weights, the copies and the chosen users' rules of `route` may differ by `split`.

    peoples: what is left of a rule without weights and copies to the slots.
    """
    before = copy.deepcopy(route)
    written = technology.with_split(route, "m", split)
    assert route == before
    assert {**written, "spec": {}} == {**route, "spec": {}}
    rules_in = technology.rules_in
    assert {**written["spec"], rules_in: []} == {**route["spec"], rules_in: []}
    rest = list(written["spec"][rules_in])
    for rule in route["spec"][rules_in]:
        if not is_shared(rule):
            assert rest.pop(0) == rule
            continue
        shared = 0 if split.match is None or technology.matched_after else 1
        assert peoples(rest.pop(shared)) == peoples(rule)
        if split.match is not None:
            assert not is_shared(rest.pop(0))
    assert rest == []
