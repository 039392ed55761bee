"""What every TrafficRouter keeps, run over each adapter and the simulator.

Subclass `RouterContract` in a test module and give it the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coalmine.errors import RouterUnavailable, Unsupported
from coalmine.rollout.ports import Match, Routing, TrafficRouter, TrafficSplit, UserKey
from coalmine.slots import Slot

ALL_TO_BLUE = {Slot.BLUE: 100, Slot.GREEN: 0}
BETA = Match(UserKey("header", "x-group"), "beta")
# What a router may be able to do besides weights, and a split that needs it.
BESIDES_WEIGHTS = [
    pytest.param(Routing.MIRROR, TrafficSplit(ALL_TO_BLUE, mirror_percent=100), id="mirror"),
    pytest.param(Routing.MIRROR, TrafficSplit(ALL_TO_BLUE, mirror_percent=7), id="mirror some"),
    pytest.param(
        Routing.MATCH, TrafficSplit(ALL_TO_BLUE, match=BETA, match_to=Slot.GREEN), id="match by header"
    ),
    pytest.param(
        Routing.MATCH,
        TrafficSplit(ALL_TO_BLUE, match=Match(UserKey("cookie", "group"), "beta"), match_to=Slot.GREEN),
        id="match by cookie",
    ),
    pytest.param(
        Routing.STICKY_HEADER,
        TrafficSplit({Slot.BLUE: 75, Slot.GREEN: 25}, sticky=UserKey("header", "x-user-id")),
        id="sticky by header",
    ),
    pytest.param(
        Routing.STICKY_COOKIE,
        TrafficSplit({Slot.BLUE: 75, Slot.GREEN: 25}, sticky=UserKey("cookie", "uid")),
        id="sticky by cookie",
    ),
]


class RouterContract:
    @pytest.fixture
    def router(self) -> TrafficRouter:
        """The router of a model that nobody has routed yet."""
        raise NotImplementedError

    @pytest.fixture
    def neighbour(self) -> TrafficRouter:
        """The router of another model on the same data plane, not routed yet either."""
        raise NotImplementedError

    @pytest.fixture
    def cut(self) -> Callable[[], None]:
        """Makes the data plane unreachable."""
        raise NotImplementedError

    def test_no_split_is_observed_before_the_first(self, router: TrafficRouter) -> None:
        assert router.observed_split() is None

    @pytest.mark.parametrize("weight_percent", [0, 1, 50, 99, 100])
    @pytest.mark.parametrize("candidate", list(Slot))
    def test_the_split_that_was_set_is_observed(
        self, router: TrafficRouter, candidate: Slot, weight_percent: int
    ) -> None:
        split = TrafficSplit.canary(candidate, weight_percent)
        router.set_split(split)
        assert router.observed_split() == split

    def test_setting_a_split_again_changes_nothing(self, router: TrafficRouter) -> None:
        for _ in range(3):
            router.set_split(TrafficSplit.canary(Slot.GREEN, 25))
        assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 25)

    def test_the_last_of_several_splits_holds(self, router: TrafficRouter) -> None:
        for weight_percent in (5, 25, 50, 100, 0):
            router.set_split(TrafficSplit.canary(Slot.GREEN, weight_percent))
        assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)

    @pytest.mark.parametrize(("routing", "split"), BESIDES_WEIGHTS)
    def test_what_a_router_supports_is_set_and_observed_whole(
        self, router: TrafficRouter, routing: Routing, split: TrafficSplit
    ) -> None:
        if routing not in router.supports():
            with pytest.raises(Unsupported):
                router.set_split(split)
            return
        router.set_split(split)
        assert router.observed_split() == split

    def test_nothing_of_a_split_is_left_after_the_next(self, router: TrafficRouter) -> None:
        for parameter in BESIDES_WEIGHTS:
            routing, split = parameter.values
            if routing in router.supports():
                router.set_split(split)
                assert router.observed_split() == split
                router.set_split(TrafficSplit.all_to(Slot.BLUE))
                assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)

    def test_giving_the_route_back_moves_nobody_and_may_be_done_again(self, router: TrafficRouter) -> None:
        router.set_split(TrafficSplit.all_to(Slot.GREEN))
        for _ in range(2):
            router.give_back()
            assert router.observed_split() == TrafficSplit.all_to(Slot.GREEN)
        router.set_split(TrafficSplit.canary(Slot.BLUE, 5))
        assert router.observed_split() == TrafficSplit.canary(Slot.BLUE, 5)

    def test_models_do_not_move_each_other(self, router: TrafficRouter, neighbour: TrafficRouter) -> None:
        router.set_split(TrafficSplit.canary(Slot.GREEN, 5))
        assert neighbour.observed_split() is None
        neighbour.set_split(TrafficSplit.all_to(Slot.GREEN))
        assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 5)

    def test_an_unreachable_data_plane_is_said_to_be_unavailable(
        self, router: TrafficRouter, cut: Callable[[], None]
    ) -> None:
        router.set_split(TrafficSplit.all_to(Slot.BLUE))
        cut()
        with pytest.raises(RouterUnavailable):
            router.observed_split()
        with pytest.raises(RouterUnavailable):
            router.set_split(TrafficSplit.all_to(Slot.GREEN))
