"""After a rollout: what Git says runs, and the route is Git's, unless the next rollout has begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from coalmine.errors import ReconcilerUnavailable
from coalmine.operations.at_rest import leave_at_rest
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.slots import Slot, SlotRelease, Slots
from coalmine.wiring import Adapters

AT_REST = Slots(
    environment="production",
    model="late-payment",
    stable=Slot.BLUE,
    releases={Slot.BLUE: SlotRelease(version="1.0.0", commit="c0", model_digest="d0")},
)
HANDED_OVER = AT_REST.with_candidate(SlotRelease(version="1.1.0", commit="c1", model_digest="d1"))


class Place:
    """Git's word, and a reconciler and a router that take note of what they are told.

    meanwhile: happens while the reconciler works.
    """

    def __init__(self, slots: Slots, meanwhile: Callable[[Place], None] = lambda _: None) -> None:
        self.now = slots
        self.told: list[Any] = []
        self._meanwhile = meanwhile
        self.router = self.reconciler = self

    def slots(self, _: str) -> Slots:
        return self.now

    def reconcile(self, slots: Slots) -> None:
        self.told.append(slots)
        self._meanwhile(self)

    def give_back(self) -> None:
        self.told.append("given back")

    def leave(self) -> list[Any]:
        leave_at_rest(cast(ServingEnvironment, self), cast(Adapters, self), AT_REST.model)
        return self.told


def hand_over(place: Place) -> None:
    place.now = HANDED_OVER


def fail(_: Place) -> None:
    raise ReconcilerUnavailable("Flux is away")


def test_the_route_is_given_back_once_what_git_says_runs() -> None:
    assert Place(AT_REST).leave() == [AT_REST, "given back"]


def test_the_route_of_the_next_rollout_is_left_to_it() -> None:
    assert Place(HANDED_OVER).leave() == [HANDED_OVER]


def test_also_where_it_began_meanwhile() -> None:
    assert Place(AT_REST, hand_over).leave() == [AT_REST]


def test_what_git_no_longer_says_need_not_run() -> None:
    def outdated(place: Place) -> None:
        hand_over(place)
        fail(place)

    assert Place(AT_REST, outdated).leave() == [AT_REST]


def test_but_what_it_says_still_does() -> None:
    with pytest.raises(ReconcilerUnavailable, match="Flux is away"):
        Place(AT_REST, fail).leave()
