"""An environment that serves nobody: what it is told is written down, and what it shows is set."""

from __future__ import annotations

from dataclasses import dataclass, field

from coalmine.errors import RouterUnavailable
from coalmine.rollout.ports import SlotHealth, SlotStatus, TrafficSplit
from coalmine.settings import Environment
from coalmine.slots import Slot, Slots


@dataclass
class Place:
    """
    held: what Git says should run. shows: what is read off the route. health: of every slot.
    started, moved: what its reconciler and its router were told.
    """

    held: Slots
    shows: TrafficSplit | RouterUnavailable | None = None
    health: SlotHealth = SlotHealth.FAILED
    name: str = "local"
    settings: Environment = field(default_factory=Environment)
    started: list[Slots] = field(default_factory=list)
    moved: list[TrafficSplit] = field(default_factory=list)

    @property
    def router(self) -> Place:
        return self

    reconciler = rollouts = router

    def catch_up(self) -> None:
        pass

    def up(self) -> None:
        pass

    def adapters(self, _: object) -> Place:
        return self

    def slots(self, _: str) -> Slots:
        return self.held

    def reconcile(self, slots: Slots) -> None:
        self.started.append(slots)

    def status(self, slot: Slot) -> SlotStatus:
        return SlotStatus(self.health, f"{slot} has no memory left")

    def observed_split(self) -> TrafficSplit | None:
        if isinstance(self.shows, RouterUnavailable):
            raise self.shows
        return self.shows

    def set_split(self, split: TrafficSplit) -> None:
        self.moved.append(split)

    def give_back(self) -> None:
        pass
