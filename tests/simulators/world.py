"""A world to roll out in: time and chance are simulated, behind the real ports.

Requests arrive at `requests_per_s` while the clock sleeps and are routed at random by the
weight that is set; each arm fails and is slow with its own probability. Nothing here knows
the rules of a rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coalmine.errors import (
    AlreadyRunning,
    ReconcilerUnavailable,
    RemoteUnavailable,
    RouterUnavailable,
    TelemetryUnavailable,
)
from coalmine.rollout.evidence import Arm, Counters, Reading
from coalmine.rollout.ports import Request, Routing, SlotHealth, SlotStatus, TrafficSplit
from coalmine.rollout.runner import Ports
from coalmine.slots import Slot, SlotRelease, Slots

BOUNDS_S = (0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass
class ArmBehaviour:
    """failing: share of requests that fail. median_s: of the log-normal duration."""

    failing: float = 0.0
    median_s: float = 0.01


class World:
    """Clock, users, proxy, cluster and record in one; `ports()` gives them to a runner."""

    def __init__(self, *, requests_per_s: float = 200.0, seed: int = 0) -> None:
        self.now = 1_000_000.0
        self.requests_per_s = requests_per_s
        self.chance = np.random.default_rng(seed)
        self.behaviour = {Slot.BLUE: ArmBehaviour(), Slot.GREEN: ArmBehaviour()}
        self.clock = SimulatedClock(self)
        self.router = SimulatedRouter()
        self.telemetry = SimulatedTelemetry(self)
        self.reconciler = SimulatedReconciler(self)
        self.journal = MemoryJournal()
        self.record = MemoryRecord()
        self.happenings: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, happening: Callable[[], None]) -> None:
        """`happening` once, `seconds` after the world began."""
        self.happenings.append((1_000_000.0 + seconds, happening))

    def ports(self) -> Ports:
        return Ports(self.router, self.telemetry, self.reconciler, self.journal, self.record, self.clock)

    def pass_time(self, seconds: float) -> None:
        self.telemetry.count(seconds)
        self.now += seconds
        for happening in [h for h in self.happenings if h[0] <= self.now]:
            self.happenings.remove(happening)
            happening[1]()


class SimulatedClock:
    def __init__(self, world: World) -> None:
        self._world = world

    def now_s(self) -> float:
        return self._world.now

    def sleep(self, seconds: float) -> None:
        self._world.pass_time(seconds)


class SimulatedRouter:
    """Takes up a split at once, unless told to be `deaf` or `down`."""

    def __init__(self) -> None:
        self.split: TrafficSplit | None = None
        self.history: list[int] = []  # what was set, as green's percent
        self.deaf = False
        self.down = False
        self.supported = frozenset(Routing)

    def supports(self) -> frozenset[Routing]:
        return self.supported

    def set_split(self, split: TrafficSplit) -> None:
        if self.down:
            raise RouterUnavailable("the simulated router is down")
        self.history.append(split.weights[Slot.GREEN])
        if not self.deaf:
            self.split = split

    def observed_split(self) -> TrafficSplit | None:
        if self.down:
            raise RouterUnavailable("the simulated router is down")
        return self.split


class SimulatedTelemetry:
    def __init__(self, world: World) -> None:
        self._world = world
        self.epoch = "1"
        self.error: str | None = None
        self.requests = dict.fromkeys(Slot, 0)
        self.failures = dict.fromkeys(Slot, 0)
        self.within = {slot: np.zeros(len(BOUNDS_S), dtype=int) for slot in Slot}

    def count(self, seconds: float) -> None:
        world = self._world
        if world.router.split is None:
            return
        total = world.chance.poisson(world.requests_per_s * seconds)
        to_green = world.chance.binomial(total, world.router.split.weights[Slot.GREEN] / 100)
        for slot, n in ((Slot.GREEN, to_green), (Slot.BLUE, total - to_green)):
            arm = world.behaviour[slot]
            durations = world.chance.lognormal(np.log(arm.median_s), 0.6, n)
            self.requests[slot] += int(n)
            self.failures[slot] += int(world.chance.binomial(n, arm.failing))
            self.within[slot] += np.array([(durations <= bound).sum() for bound in BOUNDS_S], dtype=int)

    def end_request(self, slot: Slot, *, failed: bool, seconds: float) -> None:
        """One request more."""
        self.requests[slot] += 1
        self.failures[slot] += failed
        self.within[slot] += np.array([seconds <= bound for bound in BOUNDS_S], dtype=int)

    def restart(self) -> None:
        """The counters begin anew, as after a restart of the proxy."""
        self.epoch = str(int(self.epoch) + 1)
        for slot in Slot:
            self.requests[slot] = self.failures[slot] = 0
            self.within[slot][:] = 0

    def read(self, candidate: Slot) -> Reading:
        if self.error is not None:
            raise TelemetryUnavailable(self.error)
        arms = {Arm.CANDIDATE: self._counters(candidate), Arm.STABLE: self._counters(candidate.other)}
        return Reading(self._world.now, self.epoch, arms)

    def _counters(self, slot: Slot) -> Counters:
        durations = tuple(zip(BOUNDS_S, (int(n) for n in self.within[slot]), strict=True))
        return Counters(self.requests[slot], self.failures[slot], durations)


class SimulatedReconciler:
    """A release is ready `ready_after_s` after it was asked for. One that is called broken dies at
    start, and so does every one while `failed` says why."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: dict[Slot, tuple[SlotRelease, float]] = {}
        self.ready_after_s = 4.0
        self.failed: str | None = None
        self.down = False

    def reconcile(self, slots: Slots) -> None:
        self._require_up()
        for slot in Slot:
            release = slots.releases.get(slot)
            if release is None:
                self._asked.pop(slot, None)
            elif slot not in self._asked or self._asked[slot][0] != release:
                self._asked[slot] = (release, self._world.now)

    def status(self, slot: Slot) -> SlotStatus:
        self._require_up()
        if slot not in self._asked:
            return SlotStatus(SlotHealth.FAILED, "nothing is meant to run here")
        release, asked_at = self._asked[slot]
        if self.failed is not None or "broken" in release.version:
            return SlotStatus(SlotHealth.FAILED, self.failed or "it is broken")
        ready = self._world.now - asked_at >= self.ready_after_s
        return SlotStatus(SlotHealth.READY if ready else SlotHealth.STARTING)

    def _require_up(self) -> None:
        if self.down:
            raise ReconcilerUnavailable("the simulated cluster is down")


@dataclass
class MemoryJournal:
    state: dict[str, Any] | None = None
    events: list[Mapping[str, Any]] = field(default_factory=list)
    ticks: list[Mapping[str, Any]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    held: bool = False

    @contextmanager
    def lease(self) -> Iterator[None]:
        if self.held:
            raise AlreadyRunning("another runner drives this rollout")
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def load(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: Mapping[str, object]) -> None:
        self.state = dict(state)

    def append_event(self, event: Mapping[str, Any]) -> None:
        if event["sequence"] not in [told["sequence"] for told in self.events]:
            self.events.append(event)

    def append_tick(self, tick: Mapping[str, Any]) -> None:
        if tick["sequence"] not in [told["sequence"] for told in self.ticks]:
            self.ticks.append(tick)

    @property
    def polls(self) -> list[Mapping[str, Any]]:
        return [tick["poll"] for tick in self.ticks if "poll" in tick]

    def take_requests(self) -> Sequence[Request]:
        taken, self.asked = self.asked, []
        return taken

    def story(self) -> list[str]:
        """The kinds of the events, in order."""
        return [str(event["kind"]) for event in self.events]


@dataclass
class MemoryRecord:
    """down_for: how many calls the remote refuses before it answers."""

    outcomes: list[str] = field(default_factory=list)
    down_for: int = 0

    def promote(self) -> None:
        self._write("promoted")

    def reject(self, reason: str) -> None:
        self._write(f"rejected: {reason}")

    def _write(self, outcome: str) -> None:
        if self.down_for > 0:
            self.down_for -= 1
            raise RemoteUnavailable("the simulated Git remote is down")
        if outcome not in self.outcomes:
            self.outcomes.append(outcome)


def upgrade_slots() -> Slots:
    """1.0.0 is stable in blue; 1.1.0 is the candidate in green."""
    first = Slots(environment="test", model="m", stable=Slot.BLUE, releases={Slot.BLUE: release("1.0.0")})
    return first.with_candidate(release("1.1.0"))


def first_slots() -> Slots:
    return Slots(environment="test", model="m").with_candidate(release("1.0.0"))


def release(version: str) -> SlotRelease:
    return SlotRelease(version=version, commit="c" * 40, model_digest="d" * 64)
