"""Rollouts through the real Envoy, several at once, with faults that fake model servers make.

    python -m benchmarks.gates.end_to_end [--rollouts 36] [--at-once 6] [--seed N]

A third of the candidates is as good as stable; the others fail more often, are slower, hang, crash or
refuse connections. What each is, and the load, is drawn when it starts. The rollouts run by the code of
`coalmine runner`. What users lost is counted where users are (`benchmarks.data_plane.users`), never from
what the gates saw. Every journal is replayed, and the times to detect a regression are compared with
those of the simulation for the same parameters.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.data_plane.rollouts import (
    CANDIDATE,
    ENDED,
    STABLE,
    TIMEOUT_S,
    DataPlane,
    at_rest,
    data_plane,
    handed_over,
    rollout_ports,
    to_stable,
)
from benchmarks.data_plane.servers import Fault, Server
from benchmarks.data_plane.users import NOBODY, Counts, Users, users_of
from benchmarks.gates.ours import Coalmine
from benchmarks.gates.outcome import Ended
from benchmarks.gates.traffic import Traffic
from benchmarks.gates.worlds import Slowdown, World
from benchmarks.table import Figure, report
from coalmine.durable import read_lines
from coalmine.errors import MachineUnready
from coalmine.journals import journal
from coalmine.journals.journal import EVENTS, FileJournal
from coalmine.rollout.events import EventKind
from coalmine.rollout.fleet import Fleet, FleetClock
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Reconciler, SlotHealth
from coalmine.rollout.replay import replay
from coalmine.rollout.runner import run
from coalmine.rollout_spec import Rollout
from coalmine.slots import Slot, Slots

OUT = Path(__file__).parents[1] / "results" / "gates_end_to_end.json"
ROLLOUT = Rollout(bake_s=10)
BEFORE_S = 20.0  # users on stable, before the rollout: its history
AFTER_S = 5.0  # users after its end, whose losses count too
LONGEST_S = 1200.0  # for all of them
LAG_LOOKED_AT_EVERY_S = 20.0
LAG_AT_MOST_MS = 500.0
SIMULATED = 20  # runs of the simulation for each rollout

PER_S = (100.0, 180.0)
BASE = (0.002, 0.02)
TIMES = (4.0, 15.0)  # of the base rate, and at least:
FAILING_AT_LEAST = 0.03
SLOWER = (1.4, 3.0)
MEDIAN_S = (0.012, 0.04)
SPREAD = 0.4
ONSET_S = (0.0, 20.0)  # of half of the faults; the others are there from the start


class Kind(StrEnum):
    GOOD = "good"
    FAILING = "failing"
    SLOW = "slow"
    HANG = "hangs"
    CRASH = "crashes"
    REFUSE = "refuses"


# A third is good; the rest as here, over and over.
BAD = (Kind.FAILING, Kind.SLOW, Kind.FAILING, Kind.HANG, Kind.SLOW, Kind.CRASH, Kind.FAILING, Kind.REFUSE)
FAULTS = {Kind.HANG: Fault.HANG, Kind.CRASH: Fault.CRASH, Kind.REFUSE: Fault.REFUSE}


@dataclass(frozen=True)
class Case:
    model: str
    kind: Kind
    world: World

    def servers(self, plane: DataPlane) -> dict[Slot, Server]:
        world, slots = self.world, dict[Slot, Server]()
        for slot in (STABLE, CANDIDATE):
            good = Server(
                plane.stack.port(f"{self.model}-{slot}"),
                slot,
                base=world.stable_rate,
                failing=world.stable_rate,
                median_ms=1000 * world.median_s,
                sigma=world.spread,
            )
            slots[slot] = good
        slots[CANDIDATE] = replace(
            slots[CANDIDATE],
            failing=world.stable_rate if self.kind in FAULTS else world.candidate_rate,
            slow_times=1.0 if world.slowdown is None else world.slowdown.factor,
            fault=FAULTS.get(self.kind, Fault.NONE),
            onset_s=world.onset_s,
        )
        return slots


@dataclass(frozen=True)
class Result:
    """
    decided_s: from the first stage to the decision; None without one. lost: requests that failed on the
    candidate, as their users saw it, of `sent` there. calls: how often the record was called.
    """

    case: Case
    promoted: bool | None
    reason: str
    decided_s: float | None
    sent: int
    lost: int
    weights: tuple[int, ...]
    calls: int
    replays: bool
    took_s: float


def drawn(rollouts: int, seed: int) -> list[Case]:
    """The same seed, the same cases."""
    rng = np.random.default_rng(seed)
    bad = itertools.cycle(BAD)
    # A third, every other one of the first: a good one takes longest, and should not be the last alone.
    is_good = [number % 2 == 0 and number < 2 * rollouts / 3 for number in range(rollouts)]
    kinds = [Kind.GOOD if good else next(bad) for good in is_good]
    return [Case(f"m{number:02}", kind, _world(kind, rng)) for number, kind in enumerate(kinds)]


def _world(kind: Kind, rng: np.random.Generator) -> World:
    base = _log_uniform(rng, *BASE)
    world = World(
        requests_per_s=rng.uniform(*PER_S),
        stable_rate=base,
        candidate_rate=base,
        median_s=_log_uniform(rng, *MEDIAN_S),
        spread=SPREAD,
    )
    if kind is Kind.GOOD:
        return world
    onset_s = rng.uniform(*ONSET_S) if rng.random() < 0.5 else 0.0
    world = replace(world, onset_s=onset_s)
    match kind:
        case Kind.FAILING:
            rate = max(base * _log_uniform(rng, *TIMES), FAILING_AT_LEAST)
            return replace(world, candidate_rate=min(rate, 1.0))
        case Kind.SLOW:
            # The simulation's slowness is there from the start.
            return replace(world, onset_s=0.0, slowdown=Slowdown(rng.uniform(*SLOWER), is_tail_only=False))
        case _:
            return replace(world, candidate_rate=1.0)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


# --- the rollouts ----------------------------------------------------------------------


class _Stage:
    """Where the rollouts take place, and what came of them."""

    def __init__(self, plane: DataPlane, users: Users, cases: Sequence[Case], at_once: int) -> None:
        self.plane, self.users, self.at_once = plane, users, at_once
        self.cases = {case.model: case for case in cases}
        self.folders: dict[str, Path] = {}
        self.took_s: dict[str, float] = {}
        self.late_s: list[float] = []
        self.failures: list[str] = []
        self.started: set[str] = set()

    @property
    def waiting(self) -> list[str]:
        return [model for model in self.cases if model not in self.started]

    def find(self, under_way: frozenset[str]) -> list[str]:
        """The next ones, as many as there is room for."""
        return self.waiting[: self.at_once - len(under_way)]

    def ticked(self, took_s: float, late_s: float) -> None:  # noqa: ARG002
        self.late_s.append(late_s)

    def drive(self, model: str, halting: threading.Event) -> None:
        began_s = time.monotonic()
        self.started.add(model)
        case = self.cases[model]
        chosen = self.plane.ports(model, case.servers(self.plane), ROLLOUT.gates)
        try:
            chosen.reconciler.reconcile(at_rest(model))
            _await_ready(chosen.reconciler)
            to_stable(chosen)
            self.users.ask(model, case.world.requests_per_s)
            halting.wait(BEFORE_S)
            folder = self.plane.begin(model, ROLLOUT.stages, time.time())
            self.folders[model] = folder
            plan = journal.keep_plan(folder, Plan.of(ROLLOUT, TIMEOUT_S))
            ports = replace(rollout_ports(chosen, folder), clock=FleetClock(halting, self))
            run(plan, handed_over(model), ports)
            halting.wait(AFTER_S)
        finally:
            self.users.ask(model, 0)
            halting.wait(1.5)  # the last answers
            chosen.reconciler.reconcile(Slots(environment="local", model=model))
            self.took_s[model] = time.monotonic() - began_s

    def failed(self, model: str, error: Exception, again_in_s: float) -> None:  # noqa: ARG002
        self.failures.append(f"{model}: {type(error).__name__}: {error}")
        if model not in self.folders:
            self.started.discard(model)  # its rollout had not begun: once more


def _await_ready(reconciler: Reconciler) -> None:
    deadline = time.monotonic() + 30
    while reconciler.status(STABLE).health is not SlotHealth.READY:
        if time.monotonic() > deadline:
            raise TimeoutError("the fake server of stable is not ready")
        time.sleep(0.05)


@dataclass(frozen=True)
class Load:
    """Shares of a core, and how late the users' requests left."""

    per_s: float
    users_cpu: float
    envoy_cpu: float
    runner_cpu: float
    lag_ms: dict[str, float]
    late_p99_s: float


def roll_out(cases: Sequence[Case], at_once: int, top: Path) -> tuple[list[Result], Load, list[str]]:
    with data_plane(top) as plane, users_of(plane.stack.address) as users:
        stage = _Stage(plane, users, cases, at_once)
        fleet = Fleet(find=stage.find, drive=stage.drive, failed=stage.failed)
        envoy = psutil.Process(_pid_of(plane, "envoy"))
        before, started_s = (envoy.cpu_times(), time.process_time()), time.monotonic()
        deadline = started_s + LONGEST_S
        try:
            _watch(stage, fleet, users, deadline)
            elapsed_s = time.monotonic() - started_s
            after = envoy.cpu_times(), time.process_time()
        finally:
            fleet.halt(within_s=15)
        counts = users.counts()
        results = [_result(stage, case, counts) for case in cases if case.model in stage.folders]
    late = sorted(stage.late_s)
    load = Load(
        per_s=sum(counts.asked.values()) / elapsed_s,
        users_cpu=counts.cpu_s / counts.elapsed_s,
        envoy_cpu=(sum(after[0][:2]) - sum(before[0][:2])) / elapsed_s,
        runner_cpu=(after[1] - before[1]) / elapsed_s,
        lag_ms=counts.lag_ms,
        late_p99_s=late[int(0.99 * len(late))] if late else 0.0,
    )
    return results, load, stage.failures


def _watch(stage: _Stage, fleet: Fleet, users: Users, deadline_s: float) -> None:
    """Until all have ended, or the time is up."""
    look_at_users = time.monotonic() + LAG_LOOKED_AT_EVERY_S
    while (stage.waiting or fleet.under_way) and time.monotonic() < deadline_s:
        fleet.look()
        time.sleep(0.5)
        if time.monotonic() > look_at_users:
            look_at_users += LAG_LOOKED_AT_EVERY_S
            _require_in_time(users.counts())


def _require_in_time(counts: Counts) -> None:
    """
    Raises:
        MachineUnready: the users cannot keep up, so both arms fail by this machine's fault, and no gate
            could tell them apart.
    """
    late_ms = counts.lag_ms["recent"]
    if late_ms > LAG_AT_MOST_MS:
        raise MachineUnready(
            f"This machine cannot carry the load: requests leave {late_ms:.0f} ms late (99th percentile of "
            f"the last {LAG_LOOKED_AT_EVERY_S:g} s). Run fewer rollouts at once (--at-once), or end what "
            "else runs."
        )


def _pid_of(plane: DataPlane, name: str) -> int:
    (pid,) = [process.pid for process in plane.stack.processes() if process.name == name]
    assert pid is not None
    return pid


def _result(stage: _Stage, case: Case, counts: Counts) -> Result:
    folder, model = stage.folders[case.model], case.model
    events = journal.read_events(folder)
    at_s = {event.kind: event.at_s for event in reversed(events)}  # the first of each kind
    begun_s = at_s.get(EventKind.STAGE_STARTED)
    decided_s = at_s.get(EventKind.PROMOTING) or at_s.get(EventKind.ROLLING_BACK)
    ended, _ = read_lines(folder / ENDED)
    since_s = 0.0 if begun_s is None else begun_s - 1
    green = {well: counts.total(model, CANDIDATE, well=well, since_s=since_s) for well in (True, False)}
    silent = counts.total(model, NOBODY, well=False, since_s=since_s)
    weights = [event.weight_percent for event in events]
    moves = tuple(weight for weight, before in zip(weights, [0, *weights], strict=False) if weight != before)
    reasons = [e.sentence for e in events if e.kind in (EventKind.PROMOTING, EventKind.ROLLING_BACK)]
    return Result(
        case=case,
        promoted=ended[0]["ended"] == "promoted" if ended else None,
        reason=reasons[0] if reasons else "no end",
        decided_s=None if begun_s is None or decided_s is None else decided_s - begun_s,
        sent=green[True] + green[False] + silent,
        lost=green[False] + silent,
        weights=moves,
        calls=len(ended),
        replays=_replays(folder),
        took_s=stage.took_s.get(model, math.nan),
    )


def _replays(folder: Path) -> bool:
    """Whether the journal's ticks give its events and its last state again."""
    plan, saved = journal.read_plan(folder), FileJournal(folder).load()
    assert plan is not None
    assert saved is not None
    steps = list(replay(plan, journal.read_ticks(folder)))
    events = [event.to_json() for step in steps for event in step.decision.events]
    told, _ = read_lines(folder / EVENTS)
    return _bytes(events) == _bytes(told) and _bytes(steps[-1].decision.state.to_json()) == _bytes(
        saved["state"]
    )


def _bytes(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


# --- beside the simulation -------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """ratio: of the times to detection end to end to the simulation's, geometric mean, with its 95 %
    interval. told_apart: the ratio that this comparison would notice nine times in ten."""

    rollouts: int
    ratio: float
    low: float
    high: float
    p: float
    told_apart: float


def compared(results: Sequence[Result], seed: int) -> Agreement | None:
    """Of the failing and the slow that were rolled back, here and in nearly all simulated runs."""
    rng = np.random.default_rng(seed)
    differences, variances = [], []
    for result in results:
        if result.case.kind not in (Kind.FAILING, Kind.SLOW) or result.promoted or not result.decided_s:
            continue
        times = simulated(result.case.world, rng)
        if len(times) < 0.9 * SIMULATED:
            continue
        logs = np.log(np.maximum(times, ROLLOUT.poll_s))
        differences.append(math.log(max(result.decided_s, ROLLOUT.poll_s)) - logs.mean())
        # A time is a whole number of polls: never less spread than that.
        least = (ROLLOUT.poll_s / math.exp(logs.mean())) ** 2 / 12
        variances.append(max(float(logs.var(ddof=1)), least) * (1 + 1 / len(times)))
    if not differences:
        return None
    mean, error = float(np.mean(differences)), math.sqrt(sum(variances)) / len(differences)
    p = math.erfc(abs(mean) / error / math.sqrt(2))
    return Agreement(
        rollouts=len(differences),
        ratio=math.exp(mean),
        low=math.exp(mean - 1.96 * error),
        high=math.exp(mean + 1.96 * error),
        p=p,
        told_apart=math.exp((1.96 + 1.282) * error),
    )


def simulated(world: World, rng: np.random.Generator) -> list[float]:
    """Times to the roll-back, of those simulated runs that have one."""
    method = Coalmine("end to end", ROLLOUT, history_s=BEFORE_S)
    outcomes = [method.run(Traffic(world, rng)) for _ in range(SIMULATED)]
    return [outcome.at_s for outcome in outcomes if outcome.ended is Ended.ROLLED_BACK]


# --- the table -------------------------------------------------------------------------


def figures(results: Sequence[Result], cases: int, load: Load, agreement: Agreement | None) -> list[Figure]:
    good = [result for result in results if result.case.kind is Kind.GOOD]
    bad = [result for result in results if result.case.kind is not Kind.GOOD]
    promotions = sorted(r.decided_s for r in good if r.promoted and r.decided_s)
    dead = [r for r in bad if r.case.kind in FAULTS]
    found = [
        Figure("rollouts that ended", sum(r.promoted is not None for r in results), "", at_least=cases),
        Figure(
            "good, and rolled back",
            sum(r.promoted is False for r in good),
            f"of {len(good)}",
            at_most=1,
            note="at 1 % each, two or more happen in less than 1 of 100 runs",
        ),
        Figure("bad, and promoted", sum(r.promoted is True for r in bad), f"of {len(bad)}", at_most=0),
        Figure("replayed to the same bytes", sum(r.replays for r in results), "", at_least=cases),
        Figure("ends recorded twice", sum(r.calls > 1 for r in results), "", at_most=0),
        Figure(
            "good: median time to promote", promotions[len(promotions) // 2] if promotions else math.nan, "s"
        ),
        Figure("bad: lost on the candidate, mean", _mean([r.lost for r in bad]), "requests"),
        Figure(
            "of those that hang, crash or refuse, most", max((r.lost for r in dead), default=0), "requests"
        ),
    ]
    if agreement is not None:
        found.append(
            Figure(
                "time to detect, of the simulation's",
                agreement.ratio,
                "times",
                note=f"{agreement.rollouts} rollouts, 95 %: {agreement.low:.2f} to {agreement.high:.2f}; "
                f"a ratio of {agreement.told_apart:.2f} would be noticed 9 times in 10",
            )
        )
        found.append(Figure("that it is the same, p", agreement.p, "", at_least=0.001))
    found += [
        Figure("requests", load.per_s, "per s"),
        Figure("users' process, of a core", load.users_cpu, "", at_most=0.6),
        Figure("Envoy, of a core", load.envoy_cpu, "", at_most=0.6),
        Figure("requests left late, 99th percentile", load.lag_ms.get("p99", 0), "ms", at_most=50),
        Figure("ticks late, 99th percentile", load.late_p99_s, "s", at_most=1),
    ]
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def show(results: Sequence[Result]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in (
        "model",
        "candidate",
        "per s",
        "stable",
        "is",
        "since",
        "ended",
        "after",
        "lost",
        "of",
        "",
    ):
        table.add_column(heading, justify="right" if heading in ("per s", "lost", "of", "after") else "left")
    for result in results:
        world = result.case.world
        slower = "" if world.slowdown is None else f"{world.slowdown.factor:.2f} x slower"
        table.add_row(
            result.case.model,
            result.case.kind,
            f"{world.requests_per_s:.0f}",
            f"{world.stable_rate:.2%}",
            slower or f"{world.candidate_rate:.2%}",
            f"{world.onset_s:.0f} s",
            {True: "promoted", False: "rolled back", None: "no end"}[result.promoted],
            "" if result.decided_s is None else f"{result.decided_s:.0f} s",
            str(result.lost),
            str(result.sent),
            "" if result.replays else "DOES NOT REPLAY",
        )
    Console().print(table)


def main(rollouts: int = 36, at_once: int = 6, seed: int | None = None, out: Path = OUT) -> int:
    seed = secrets.randbits(32) if seed is None else seed
    print(f"seed {seed}: {rollouts} rollouts through the real Envoy, {at_once} at once")
    cases = drawn(rollouts, seed)
    print(", ".join(f"{count} {kind}" for kind, count in Counter(case.kind for case in cases).items()))
    try:
        with tempfile.TemporaryDirectory(prefix="coalmine-end-to-end-") as folder:
            results, load, failures = roll_out(cases, at_once, Path(folder))
    except MachineUnready as error:
        print(error, file=sys.stderr)
        return error.exit_code
    show(results)
    for failure in failures:
        print(f"driving failed: {failure}")
    agreement = compared(results, seed)
    found = figures(results, rollouts, load, agreement)
    measurements = {"seed": seed, "rollouts": [asdict(result) for result in results], "load": asdict(load)}
    return report(found, out, measurements)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rollouts through the real Envoy, with faults.")
    parser.add_argument("--rollouts", type=int, default=36)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--out", type=Path, default=OUT)
    sys.exit(main(**vars(parser.parse_args())))
