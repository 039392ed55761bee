"""The simulated telemetry as a cluster's Prometheus gives it: each slot's counts as of its last scrape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coalmine.rollout.evidence import Arm, Reading
from coalmine.slots import Slot
from tests.simulators.world import SimulatedTelemetry, World


class ScrapedTelemetry(SimulatedTelemetry):
    """Counts are told once both slots were scraped again, and stay so until then.

    every_s: from one scrape of a slot to its next. after_s: when each slot's first is.
    """

    def __init__(self, world: World, every_s: float, after_s: Mapping[Slot, float]) -> None:
        super().__init__(world)
        self._every_s = every_s
        self._next_s = {slot: world.now + after_s[slot] for slot in Slot}
        self._scraped: dict[Slot, tuple[float, Reading]] = {}
        self._told: dict[Slot, tuple[float, Reading]] = {}

    def count(self, seconds: float) -> None:
        """In steps between which the scrapes are."""
        end_s = self._world.now + seconds
        while self._world.now < end_s:
            until_s = min(end_s, *self._next_s.values())
            super().count(until_s - self._world.now)
            self._world.now = until_s
            for slot, at_s in self._next_s.items():
                if at_s <= until_s:
                    self._scraped[slot] = (until_s, super().read(slot))
                    self._next_s[slot] = at_s + self._every_s
        self._world.now -= seconds  # the world itself goes on by them

    def read(self, candidate: Slot) -> Reading:
        now = super().read(candidate)  # raises what it raises
        if all(self._scraped[slot][0] > self._told.get(slot, (0.0,))[0] for slot in Slot):
            self._told = dict(self._scraped)
        arms = {
            arm: self._told[slot][1].arms[Arm.CANDIDATE]
            for arm, slot in ((Arm.CANDIDATE, candidate), (Arm.STABLE, candidate.other))
        }
        scrapes = [at_s for at_s, _ in self._told.values()]
        at_s, late_s = max(scrapes), max(scrapes) - min(scrapes)
        return replace(now, at_s=at_s, arms=arms, mirrored=None, pairs=None, late_s=late_s)
