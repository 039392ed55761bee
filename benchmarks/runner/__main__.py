"""Sets the world up, lets `fleet` drive in it, and prints what that cost."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.data_plane.rollouts import DataPlane, data_plane, to_stable
from benchmarks.data_plane.servers import Server, command
from benchmarks.data_plane.users import users_of
from benchmarks.runner.fleet import SETTLES_WITHIN_S, Cost, Work
from benchmarks.table import Figure, report
from coalmine.local.port_book import free_port
from coalmine.local.supervisor import PROXY
from coalmine.reconcilers.process_files import (
    ProcessFolder,
    ProcessHealth,
    ProcessSpec,
    ProcessStatus,
    started_at_s,
)
from coalmine.slots import Slot

OUT = Path(__file__).parents[1] / "results" / "runner.json"
POLL_S = 5.0
PER_S = 2.0  # requests per second and model: too few to decide anything while it is measured
CPU_AT_MOST = 5.0  # percent of a core for ten rollouts
ROLLOUT: dict[str, Any] = {
    "poll_s": POLL_S,
    "gates": [{"gate": "errors"}, {"gate": "latency"}, {"gate": "predictions"}],
}


def main() -> int:
    parser = argparse.ArgumentParser(description="What it costs to drive many rollouts in one process.")
    parser.add_argument("--rollouts", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", action="store_true", help="print where the time of ten of them went")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coalmine-runner-") as folder:
        cost, envoy_share = measure(Path(folder), asked.rollouts, asked.seconds, profile=asked.profile)
    if cost.profile:
        print(cost.profile)
    return report(figures(cost, envoy_share, asked.rollouts), asked.out, {"cost": asdict(cost)})


def figures(cost: Cost, envoy_share: float, rollouts: int) -> list[Figure]:
    share = 100 * cost.cpu_s / cost.elapsed_s
    megabyte = 1024 * 1024
    more = (cost.rss - cost.rss_idle) / megabyte
    due = rollouts * cost.elapsed_s / POLL_S
    return [
        Figure("rollouts under way at the end", cost.rollouts, "", at_least=rollouts),
        Figure("all begun at once, settled after", cost.settled_s, "s"),
        Figure("processor for 10 rollouts", share * 10 / rollouts, "% of a core", at_most=CPU_AT_MOST),
        Figure("ticks, of those due", 100 * cost.ticks / due, "%", at_least=95),
        Figure("a tick, waiting included", cost.tick_ms, "ms"),
        Figure("ticks late, 99th percentile", cost.late_p99_s, "s", at_most=POLL_S),
        Figure(
            "Envoy meanwhile", 100 * envoy_share, "% of a core", note="users' requests are a small part of it"
        ),
        Figure("memory, all of it", cost.rss / megabyte, "MiB"),
        Figure("memory for 10 rollouts", more * 10 / rollouts, "MiB"),
        Figure(
            "errors of ports", sum(cost.port_errors.values()), "", at_most=0, note=str(cost.port_errors or "")
        ),
    ]


def measure(folder: Path, rollouts: int, seconds: float, *, profile: bool) -> tuple[Cost, float]:
    """And Envoy's share of a core, from the beginning of the rollouts to their end."""
    models = [f"model-{number:03}" for number in range(rollouts)]
    with data_plane(folder) as plane, users_of(plane.stack.address) as users:
        servers = _servers(models)
        with _serving(servers):
            for model in models:
                to_stable(plane.ports(model, servers[model]))
                users.ask(model, PER_S)
            work = _work(plane, folder, servers, seconds, profile=profile)
            path = folder / "work.json"
            path.write_text(json.dumps(asdict(work)))
            envoy = _process_of(plane, PROXY)
            before_s, started_s = sum(envoy.cpu_times()[:2]), time.monotonic()
            ran = subprocess.run(
                [sys.executable, "-m", "benchmarks.runner.fleet", str(path)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=SETTLES_WITHIN_S + seconds + 120,
            )
            envoy_share = (sum(envoy.cpu_times()[:2]) - before_s) / (time.monotonic() - started_s)
    return Cost(**json.loads(ran.stdout)), envoy_share


def _process_of(plane: DataPlane, name: str) -> psutil.Process:
    (process,) = [each for each in plane.stack.processes() if each.name == name]
    return psutil.Process(process.pid)


def _servers(models: list[str]) -> dict[str, dict[Slot, Server]]:
    taken: set[int] = set()
    servers: dict[str, dict[Slot, Server]] = {}
    for model in models:
        servers[model] = {}
        for slot in Slot:
            port = free_port(taken)
            taken.add(port)
            servers[model][slot] = Server(port, slot, base=0.005, failing=0.005, median_ms=10)
    return servers


@contextmanager
def _serving(servers: dict[str, dict[Slot, Server]]) -> Iterator[None]:
    every = [server for of_model in servers.values() for server in of_model.values()]
    process = subprocess.Popen(command(every))
    try:
        time.sleep(2)
        if process.poll() is not None:
            raise SystemExit("the fake servers ended at their start")
        yield
    finally:
        process.kill()
        process.wait()


def _work(
    plane: DataPlane, folder: Path, servers: dict[str, dict[Slot, Server]], seconds: float, *, profile: bool
) -> Work:
    files = ProcessFolder(folder / "processes")
    files.folder.mkdir()
    files.announce_supervisor()
    specs: dict[str, dict[str, dict[str, Any]]] = {}
    for model, slots in servers.items():
        specs[model] = {}
        for slot in slots:
            spec = ProcessSpec(f"{model}-{slot}", ("/bin/true",))
            desired, pid = files.desire(spec), os.getpid()
            files.report(
                ProcessStatus(spec.name, desired.request, ProcessHealth.READY, pid, started_at_s(pid))
            )
            specs[model][slot.value] = asdict(spec)
    return Work(
        admin_address=plane.stack.admin_address,
        config_folder=str(plane.stack.config_folder),
        process_folder=str(files.folder),
        folders={model: str(plane.begin(model, (5, 25, 50), time.time())) for model in servers},
        specs=specs,
        ports={m: {slot.value: server.port for slot, server in s.items()} for m, s in servers.items()},
        rollout=ROLLOUT,
        measured_s=seconds,
        profile=profile,
    )


if __name__ == "__main__":
    sys.exit(main())
