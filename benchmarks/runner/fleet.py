"""The process that is measured: it drives the rollouts that it is told of, and says what that cost.

python -m benchmarks.runner.fleet CONFIG.json
"""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.data_plane.rollouts import TIMEOUT_S, handed_over, rollout_ports
from coalmine.operations.runner_metrics import RunnerMetrics
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.rollout.fleet import Fleet, FleetClock
from coalmine.rollout.plan import Plan
from coalmine.rollout.runner import run
from coalmine.rollout.watched import watched
from coalmine.rollout_spec import Rollout
from coalmine.slots import Slot
from coalmine.wiring import Endpoints, local_adapters

# Begun all at once, each changes the one file of routes, and Envoy takes up one change after the other.
SETTLED_AFTER_TICKS = 3
SETTLES_WITHIN_S = 180.0
PROFILED = 10  # of the rollouts, when asked for: the profiler slows what it watches


@dataclass(frozen=True)
class Work:
    """folders: each model's journal. specs, ports: by model, then slot. rollout: of model.yaml."""

    admin_address: str
    config_folder: str
    process_folder: str
    folders: dict[str, str]
    specs: dict[str, dict[str, dict[str, Any]]]
    ports: dict[str, dict[str, int]]
    rollout: dict[str, Any]
    measured_s: float
    profile: bool


@dataclass(frozen=True)
class Cost:
    """cpu_s: of this process while it measured. rss: bytes, idle before the rollouts, and at the end.

    late_p99_s: how long after it was due a rollout was looked at. settled_s: how long it took until
    all, which began at once, had each been looked at three times.
    """

    rollouts: int
    settled_s: float
    cpu_s: float
    elapsed_s: float
    ticks: int
    tick_ms: float
    late_p99_s: float
    rss_idle: int
    rss: int
    threads: int
    port_errors: dict[str, int]
    profile: str = ""


class _Watch(RunnerMetrics):
    """The service's own numbers, and each tick beside them."""

    def __init__(self) -> None:
        super().__init__("local")
        self.seen: list[tuple[float, float, float]] = []

    def ticked(self, took_s: float, late_s: float, *, well: bool) -> None:
        super().ticked(took_s, late_s, well=well)
        self.seen.append((time.monotonic(), took_s, late_s))


def measure(work: Work) -> Cost:
    process, watch = psutil.Process(), _Watch()
    plan = Plan.of(Rollout.model_validate(work.rollout))
    profiles: list[cProfile.Profile] = []

    def drive(model: str, halting: threading.Event) -> None:
        mine = watch.of(model)
        ports = {Slot(slot): port for slot, port in work.ports[model].items()}
        specs = {Slot(slot): _spec(spec) for slot, spec in work.specs[model].items()}
        endpoints = Endpoints(
            admin_address=work.admin_address,
            config_folder=Path(work.config_folder),
            process_folder=Path(work.process_folder),
            slots=ports,
            serve=lambda slot, _: specs[slot],
        )
        chosen = local_adapters(model, TIMEOUT_S, endpoints, plan.gates)
        real = rollout_ports(chosen, Path(work.folders[model]))
        ports_of_mine = replace(watched(real, mine), clock=FleetClock(halting, mine))
        if work.profile and len(profiles) < PROFILED:
            profiles.append(cProfile.Profile(time.thread_time))
            profiles[-1].runcall(run, plan, handed_over(model), ports_of_mine)
        else:
            run(plan, handed_over(model), ports_of_mine)

    def failed(model: str, error: Exception, again_in_s: float) -> None:
        print(f"{model}: {type(error).__name__}: {error}, again in {again_in_s:g} s", file=sys.stderr)

    rss_idle = process.memory_info().rss
    fleet = Fleet(find=lambda _: work.folders, drive=drive, failed=failed)
    began_s = time.monotonic()
    while len(watch.seen) < SETTLED_AFTER_TICKS * len(work.folders) and _is_within(began_s, SETTLES_WITHIN_S):
        _look_for(fleet, 1.0)
    settled_s, errors_before = time.monotonic() - began_s, _errors(watch)
    cpu_s, started_s = time.process_time(), time.monotonic()
    _look_for(fleet, work.measured_s)
    cpu_s, elapsed_s = time.process_time() - cpu_s, time.monotonic() - started_s
    rss, threads = process.memory_info().rss, threading.active_count()
    under_way = len(fleet.under_way)
    fleet.halt(within_s=8)
    ticks = [(took_s, late_s) for at_s, took_s, late_s in watch.seen if at_s >= started_s]
    late = sorted(late_s for _, late_s in ticks)
    return Cost(
        rollouts=under_way,
        settled_s=settled_s,
        cpu_s=cpu_s,
        elapsed_s=elapsed_s,
        ticks=len(ticks),
        tick_ms=1000 * sum(took_s for took_s, _ in ticks) / max(len(ticks), 1),
        late_p99_s=late[int(0.99 * len(late))] if late else 0.0,
        rss_idle=rss_idle,
        rss=rss,
        threads=threads,
        port_errors={name: n - errors_before.get(name, 0) for name, n in _errors(watch).items()},
        profile=_told(profiles),
    )


def _is_within(began_s: float, seconds: float) -> bool:
    return time.monotonic() - began_s < seconds


def _look_for(fleet: Fleet, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        fleet.look()
        time.sleep(1.0)


def _errors(watch: RunnerMetrics) -> dict[str, int]:
    return {
        " ".join(sample.labels.values()): int(sample.value)
        for metric in watch.registry.collect()
        for sample in metric.samples
        if sample.name == "coalmine_runner_port_errors_total"
    }


def _told(profiles: list[cProfile.Profile]) -> str:
    if not profiles:
        return ""
    told = io.StringIO()
    stats = pstats.Stats(profiles[0], stream=told)
    for profile in profiles[1:]:
        stats.add(profile)
    stats.sort_stats("cumulative").print_stats(60)
    return told.getvalue()


def _spec(content: dict[str, Any]) -> ProcessSpec:
    return ProcessSpec(**{**content, "argv": tuple(content["argv"])})


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Work(**json.loads(Path(sys.argv[1]).read_text()))))))
