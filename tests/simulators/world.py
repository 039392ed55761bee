"""A world to roll out in: time and chance are simulated, behind the real ports.

Requests arrive at `requests_per_s` while the clock sleeps and are routed as the split says: by weight,
by who their users are, in copies; each arm fails, is slow, scores and errs in its own way. Nothing here
knows the rules of a rollout.
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
    RouteConflict,
    RouterUnavailable,
    TelemetryUnavailable,
)
from coalmine.rollout.evidence import Answers, Arm, Counters, Pairs, Reading
from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import Asked, CheckResult, Request, Routing, SlotHealth, SlotStatus, TrafficSplit
from coalmine.rollout.runner import Ports
from coalmine.slots import Slot, SlotRelease, Slots

BOUNDS_S = (0.005, 0.01, 0.02, 0.05, 0.1)
SCORE_BOUNDS = tuple(round(0.05 * n, 2) for n in range(1, 21))


@dataclass
class ArmBehaviour:
    """failing: share of requests that fail. median_s: of the log-normal duration. scoring: the two
    parameters of the scores' beta distribution. loss: the mean of what an answer loses, once labelled."""

    failing: float = 0.0
    median_s: float = 0.01
    scoring: tuple[float, float] = (2.0, 5.0)
    loss: float = 0.1


class World:
    """Clock, users, proxy, cluster and record in one; `ports()` gives them to a runner."""

    def __init__(self, *, requests_per_s: float = 200.0, seed: int = 0) -> None:
        self.now = 1_000_000.0
        self.requests_per_s = requests_per_s
        self.chosen = 0.1  # the share of the requests whose users carry what a split matches
        self.labelled = 0.5  # the share of the answers whose true label comes, at once
        self.disagreeing = 0.002  # the share of the copies that is answered otherwise than the request
        self.chance = np.random.default_rng(seed)
        self.behaviour = {Slot.BLUE: ArmBehaviour(), Slot.GREEN: ArmBehaviour()}
        self.clock = SimulatedClock(self)
        self.router = SimulatedRouter()
        self.telemetry = SimulatedTelemetry(self)
        self.reconciler = SimulatedReconciler(self)
        self.checks: dict[str, SimulatedCheck] = {}
        self.journal = MemoryJournal()
        self.record = MemoryRecord()
        self.happenings: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, happening: Callable[[], None]) -> None:
        """`happening` once, `seconds` after the world began."""
        self.happenings.append((1_000_000.0 + seconds, happening))

    def ports(self) -> Ports:
        return Ports(
            self.router,
            self.telemetry,
            self.reconciler,
            self.journal,
            self.record,
            self.clock,
            self.checks,
        )

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
    """Takes up a split at once, unless told to be `deaf` or `down`, or only to be read."""

    def __init__(self) -> None:
        self.split: TrafficSplit | None = None
        self.history: list[int] = []  # what was set, as green's percent
        self.splits: list[TrafficSplit] = []  # and whole
        self.deaf = False
        self.down = False
        self.refusal: str | None = None
        self.supported = frozenset(Routing)

    def supports(self) -> frozenset[Routing]:
        return self.supported

    def set_split(self, split: TrafficSplit) -> None:
        if self.down:
            raise RouterUnavailable("the simulated router is down")
        if self.refusal is not None:
            raise RouteConflict(self.refusal)
        self.history.append(split.weights[Slot.GREEN])
        self.splits.append(split)
        if not self.deaf:
            self.split = split

    def observed_split(self) -> TrafficSplit | None:
        if self.down:
            raise RouterUnavailable("the simulated router is down")
        return self.split

    def give_back(self) -> None:
        if self.down:
            raise RouterUnavailable("the simulated router is down")


class SimulatedTelemetry:
    """Counts what users asked, what reached each arm with copies, and what the model servers answered.

    unread: slots whose model servers cannot be read. counts_copies: whether the proxy does.
    leaking: the share of the candidate's requests that nobody counts.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.epoch = "1"
        self.error: str | None = None
        self.unread: set[Slot] = set()
        self.counts_copies = True
        self.leaking = 0.0
        self.users = {slot: Tally() for slot in Slot}
        self.copies = {slot: Tally() for slot in Slot}
        self.servers = {slot: Served() for slot in Slot}
        self.pairs = Pairs("1", 0, 0)

    def count(self, seconds: float) -> None:
        world, split = self._world, self._world.router.split
        if split is None:
            return
        total = int(world.chance.poisson(world.requests_per_s * seconds))
        matched = int(world.chance.binomial(total, world.chosen)) if split.match_to is not None else 0
        green = int(world.chance.binomial(total - matched, split.weights[Slot.GREEN] / 100))
        asked = {Slot.GREEN: green, Slot.BLUE: total - matched - green}
        if split.match_to is not None:
            asked[split.match_to] += matched
        for slot, requests in asked.items():
            self._answer(slot, requests, self.users[slot])
            copies = int(world.chance.binomial(requests, split.mirror_percent / 100))
            self._answer(slot.other, copies, self.copies[slot.other])
            different = int(world.chance.binomial(copies, world.disagreeing))
            pairs = self.pairs
            self.pairs = Pairs(pairs.epoch, pairs.compared + copies, pairs.different + different)

    def _answer(self, slot: Slot, requests: int, tally: Tally) -> None:
        world, arm = self._world, self._world.behaviour[slot]
        lost = int(world.chance.binomial(requests, self.leaking)) if slot is Slot.GREEN else 0
        counted = requests - lost
        failures = int(world.chance.binomial(counted, arm.failing))
        durations = world.chance.lognormal(np.log(arm.median_s), 0.6, counted)
        tally.add(counted, failures, np.array([(durations <= bound).sum() for bound in BOUNDS_S], dtype=int))
        scores = world.chance.beta(*arm.scoring, size=counted - failures)
        labels = int(world.chance.binomial(counted - failures, world.labelled))
        served = self.servers[slot]
        served.within += np.array([(scores <= bound).sum() for bound in SCORE_BOUNDS], dtype=int)
        served.labels += labels
        served.loss += float(world.chance.binomial(labels, arm.loss))

    def end_request(self, slot: Slot, *, failed: bool, seconds: float) -> None:
        """One request more."""
        self.users[slot].add(1, int(failed), np.array([seconds <= bound for bound in BOUNDS_S], dtype=int))

    def restart(self) -> None:
        """The proxy's counters begin anew, as after its restart."""
        self.epoch = str(int(self.epoch) + 1)
        self.users = {slot: Tally() for slot in Slot}
        self.copies = {slot: Tally() for slot in Slot}

    def restart_server(self, slot: Slot) -> None:
        """One model server's counters begin anew, as after its crash."""
        self.servers[slot] = Served(epoch=str(int(self.servers[slot].epoch) + 1))

    def read(self, candidate: Slot) -> Reading:
        if self.error is not None:
            raise TelemetryUnavailable(self.error)
        arms = {Arm.CANDIDATE: candidate, Arm.STABLE: candidate.other}
        with_copies = {arm: self.users[slot].plus(self.copies[slot]) for arm, slot in arms.items()}
        return Reading(
            self._world.now,
            self.epoch,
            {arm: self.users[slot].counters() for arm, slot in arms.items()},
            mirrored={arm: t.counters() for arm, t in with_copies.items()} if self.counts_copies else None,
            answers={
                arm: self.servers[slot].answers() for arm, slot in arms.items() if slot not in self.unread
            },
            missing=tuple(f"{slot} does not answer" for slot in sorted(self.unread)),
            pairs=self.pairs,
        )


@dataclass
class Tally:
    requests: int = 0
    failures: int = 0
    within: np.ndarray = field(default_factory=lambda: np.zeros(len(BOUNDS_S), dtype=int))

    def add(self, requests: int, failures: int, within: np.ndarray) -> None:
        self.requests += requests
        self.failures += failures
        self.within = self.within + within

    def plus(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests, self.failures + other.failures, self.within + other.within
        )

    def counters(self) -> Counters:
        durations = tuple(zip(BOUNDS_S, (int(n) for n in self.within), strict=True))
        return Counters(self.requests, self.failures, durations)


@dataclass
class Served:
    epoch: str = "1"
    within: np.ndarray = field(default_factory=lambda: np.zeros(len(SCORE_BOUNDS), dtype=int))
    labels: int = 0
    loss: float = 0.0

    def answers(self) -> Answers:
        scores = tuple(zip(SCORE_BOUNDS, (int(n) for n in self.within), strict=True))
        return Answers(self.epoch, scores, self.labels, self.loss)


@dataclass
class SimulatedCheck:
    """Says what it is told to."""

    says: Verdict = Verdict.PASS
    stages: list[str] = field(default_factory=list)  # in which it was asked

    def look(self, asked: Asked) -> CheckResult:
        self.stages.append(asked.stage)
        return CheckResult(self.says, f"it says {self.says}", 1.0)


class SimulatedReconciler:
    """A release is ready `ready_after_s` after it was asked for. One that is called broken dies at
    start, and so does every one while `failed` says why; what runs in the slot `dead` has died."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: dict[Slot, tuple[SlotRelease, float]] = {}
        self.ready_after_s = 4.0
        self.failed: str | None = None
        self.dead: Slot | None = None
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
        if slot is self.dead:
            return SlotStatus(SlotHealth.FAILED, "it died")
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
    taken: int = 0  # of `asked`, in the saved state
    given: int = 0  # of `asked`, given to the runner that holds the lease

    @contextmanager
    def lease(self) -> Iterator[None]:
        if self.held:
            raise AlreadyRunning("another runner drives this rollout")
        self.held = True
        self.given = self.taken  # what the runner before was given may not be in the state
        try:
            yield
        finally:
            self.held = False

    def load(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: Mapping[str, object]) -> None:
        self.state = dict(state)
        self.taken = self.given

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
        self.given = len(self.asked)
        return self.asked[self.taken :]

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
