"""A week of looks, one a minute, at an environment in which all is honest: nobody is told anything.

Deliveries that are promoted or turned away, rollbacks, pods that are replaced, pushes of other machines, a
Git remote and an API server that are away for a moment. Every look takes some seconds, in which the place
moves on.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from coalmine.drift.alerts import Watched
from coalmine.drift.compare import compare
from coalmine.drift.facts import (
    CloneFacts,
    EnvironmentFacts,
    ModelFacts,
    Moment,
    Rollback,
    RolloutFacts,
    RouteFacts,
    Running,
    Server,
    SlotFacts,
)
from coalmine.drift.findings import Aspect, Kind
from coalmine.rollout.ports import SlotHealth, SlotStatus, TrafficSplit
from coalmine.slots import Slot, SlotRelease, Slots
from tests.drift.place import ENVIRONMENT

WEEK_S = 7 * 86_400.0
EVERY_S = 60.0
Change = Callable[[], None]
Story = Iterator[float]  # seconds until it goes on


@dataclass
class Model:
    """What Git and the journals say of one model, and what runs of it."""

    name: str
    slots: Slots
    chance: random.Random
    rollout: RolloutFacts | None = None
    rollback: Rollback | None = None
    route: RouteFacts | None = None
    running: dict[Slot, SlotFacts] = field(default_factory=dict)
    number: int = 0

    @property
    def moment(self) -> Moment:
        return Moment(self.slots, self.rollout, self.rollback)

    def seen(self) -> Running:
        return Running(dict(self.running), self.route)

    # --- what happens to it ----------------------------------------------------------------

    def life(self) -> Story:
        """Something every few hours; each is over before the next begins."""
        while True:
            yield self.chance.expovariate(1 / 7200)
            happens = self.chance.choice((self.delivery, self.delivery, self.going_back, self.pod_replaced))
            yield from happens()

    def delivery(self) -> Story:
        self.number += 1
        version = f"1.{self.number}.0"
        release = SlotRelease(version=version, commit=version, model_digest=f"{self.number:064}")
        assert self.slots.stable is not None
        candidate, stable = self.slots.stable.other, self.slots.stable
        self.slots = self.slots.with_candidate(release)
        self.rollout = RolloutFacts(f"rollout-{version}", version, is_driven=False)
        yield self.chance.uniform(0.1, 8)  # committed and pushed; its runner comes
        self.rollout = replace(self.rollout, is_driven=True)
        self.running[candidate] = SlotFacts(SlotStatus(SlotHealth.STARTING))
        yield self.chance.uniform(2, 90)
        self.running[candidate] = _ready(self.name, candidate, release)
        for weight in (5, 25, 50, 100):
            self.route = RouteFacts(TrafficSplit.canary(candidate, weight), is_held=True)
            yield self.chance.uniform(20, 400)
            if self.chance.random() < 0.1:
                self.route = RouteFacts(TrafficSplit.all_to(stable), is_held=True)
                yield self.chance.uniform(0.1, 3)
                self.slots = self.slots.with_rejection()
                yield from self._closes()
                self.running[candidate] = SlotFacts()
                return
        self.slots = self.slots.with_promotion()
        yield from self._closes()

    def _closes(self) -> Story:
        """The commit is there; the runner ends, and then gives the route back."""
        yield self.chance.uniform(0.1, 20)
        self.rollout = None
        yield self.chance.uniform(0.1, 20)
        assert self.route is not None
        self.route = replace(self.route, is_held=False)

    def going_back(self) -> Story:
        assert self.slots.stable is not None
        target = self.slots.stable.other
        if target not in self.slots.releases:
            return
        bad, good = (self.slots.releases[slot].version for slot in (self.slots.stable, target))
        self.rollback = Rollback(bad, good, is_moved=False)
        yield self.chance.uniform(0.1, 5)
        self.route = RouteFacts(TrafficSplit.all_to(target), is_held=True)
        self.rollback = replace(self.rollback, is_moved=True)
        yield self.chance.uniform(0.1, 40)
        self.slots = self.slots.with_stable(target)
        yield self.chance.uniform(0.1, 10)
        self.route = RouteFacts(TrafficSplit.all_to(target))
        self.rollback = None

    def pod_replaced(self) -> Story:
        slot = self.chance.choice(list(self.slots.releases))
        well = self.running[slot]
        self.running[slot] = SlotFacts(SlotStatus(SlotHealth.STARTING, "pod is being prepared"))
        yield self.chance.uniform(1, 55)
        self.running[slot] = well


def _ready(model: str, slot: Slot, release: SlotRelease) -> SlotFacts:
    return SlotFacts(SlotStatus(SlotHealth.READY), (Server(f"{model}-{slot}", release.model_digest),))


class Place:
    def __init__(self, seed: int, models: int = 3) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self.behind = self.pushed = 0
        self._due: list[tuple[float, int, Story]] = []
        self.models = [self._model(f"model-{number}") for number in range(models)]
        stories = [*(model.life() for model in self.models), self._others_push()]
        for number, story in enumerate(stories):
            heapq.heappush(self._due, (0.0, number, story))

    def _model(self, name: str) -> Model:
        release = SlotRelease(version="1.0.0", commit="1.0.0", model_digest="0" * 64)
        slots = Slots(environment=ENVIRONMENT, model=name, stable=Slot.BLUE, releases={Slot.BLUE: release})
        model = Model(name, slots, random.Random(self.chance.random()))
        model.running = {Slot.BLUE: _ready(name, Slot.BLUE, release), Slot.GREEN: SlotFacts()}
        model.route = RouteFacts(TrafficSplit.all_to(Slot.BLUE))
        return model

    def _others_push(self) -> Story:
        while True:
            yield self.chance.expovariate(1 / 3600)
            self.behind, self.pushed = 1, self.pushed + 1
            yield self.chance.uniform(1, 3000)
            self.behind = 0  # something here took it

    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._due[0][0] <= until_s:
            self.now_s, number, story = heapq.heappop(self._due)
            heapq.heappush(self._due, (self.now_s + next(story), number, story))
        self.now_s = until_s

    def facts(self) -> EnvironmentFacts:
        """A look as `observe` makes one: Git, what runs, Git again, some seconds apart."""
        at_s, clone = self.now_s, CloneFacts("origin/main", str(self.pushed), behind=self.behind)
        before = [model.moment for model in self.models]
        self.pass_time(self.chance.uniform(0.1, 4))
        running = [model.seen() for model in self.models]
        self.pass_time(self.chance.uniform(0.1, 4))
        after = [model.moment for model in self.models]
        models = [
            ModelFacts(model.name, was, seen, is_moving=was != now)
            for model, was, seen, now in zip(self.models, before, running, after, strict=True)
        ]
        away = self.chance.random() < 0.002
        if away:
            models = [
                replace(model, running=Running(unread={Aspect.SERVERS: "no answer"})) for model in models
            ]
        unread = {Aspect.GIT: "the remote does not answer"} if self.chance.random() < 0.002 else {}
        return EnvironmentFacts(ENVIRONMENT, at_s, tuple(models), clone, unread=unread)


@pytest.mark.parametrize("seed", range(3))
def test_a_week_of_deliveries_rollbacks_and_replaced_pods_tells_nobody_anything(seed: int) -> None:
    place, watched, fleeting = Place(seed), Watched(), 0
    while place.now_s < WEEK_S:
        facts = place.facts()
        look = compare(facts)
        fleeting += len(look.findings)
        watched = watched.with_look(look, facts.at_s, ("pager",))
        assert watched.waiting == (), watched.waiting
        place.pass_time(max(1.0, EVERY_S - (place.now_s - facts.at_s)))
    assert all(model.number > 20 for model in place.models)
    assert fleeting > 50  # else it proves nothing


@pytest.mark.parametrize("seed", range(3))
def test_in_such_a_week_each_thing_that_is_not_honest_is_told_once_and_its_end_once(seed: int) -> None:
    """Somebody takes a model's users elsewhere for two hours, each day."""
    place, watched, told = Place(seed, models=1), Watched(), []
    (model,) = place.models
    by_hand: RouteFacts | None = None
    while place.now_s < WEEK_S:
        hour = place.now_s / 3600 % 24
        honest = model.route
        if 12 <= hour < 14 and model.rollout is None and model.rollback is None:
            by_hand = by_hand or RouteFacts(TrafficSplit.canary(Slot.BLUE, 37))
            model.route = by_hand
        facts = place.facts()
        if model.route is by_hand:
            model.route = honest
        by_hand = by_hand if 12 <= hour < 14 else None
        watched = watched.with_look(compare(facts), facts.at_s, ())
        kinds = [each.finding.kind for each in watched.open.values() if each.told]
        if kinds != (told[-1] if told else []):
            told.append(kinds)
        place.pass_time(max(1.0, EVERY_S - (place.now_s - facts.at_s)))
    assert {kind for kinds in told for kind in kinds} == {Kind.ROUTE_WEIGHTS}
    assert 14 <= len(told) <= 30  # a delivery in between ends it and begins it anew
