"""The real runner on a cluster, in a process of its own, with a real clock and simulated traffic.

    python -m tests.cluster.state_runner NAMESPACE TOP ROUTE

It looks for rollouts that nobody drives, as `coalmine runner` does, and drives the first to its end. TOP is
its clone. ROUTE is a file that stands for the route: each line says who set which weight, and when.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from coalmine.cluster.client import Cluster
from coalmine.durable import append_line, read_lines
from coalmine.errors import AlreadyRunning
from coalmine.journals.cluster_rollouts import ClusterRollouts
from coalmine.journals.journal import has_ended, read_plan
from coalmine.registry.repository import Repository
from coalmine.rollout.fleet import LOOK_EVERY_S
from coalmine.rollout.ports import TrafficSplit
from coalmine.rollout.runner import run
from coalmine.settings import GitSettings
from coalmine.slots import Slot
from tests.simulators.world import SimulatedRouter, World, upgrade_slots

ENVIRONMENT = "production"


class FileRoute(SimulatedRouter):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        weights = [line["weight"] for line in read_lines(path)[0]]
        self.split = TrafficSplit.canary(Slot.GREEN, weights[-1] if weights else 0)

    def set_split(self, split: TrafficSplit) -> None:
        super().set_split(split)
        told = {"pid": os.getpid(), "weight": split.weights[Slot.GREEN], "at_s": time.time()}
        append_line(self._path, told)


def rollouts(cluster: Cluster, top: Path) -> ClusterRollouts:
    repository = Repository(top, None)  # type: ignore[arg-type]  # Git is not asked
    return ClusterRollouts(cluster, repository, GitSettings(), ENVIRONMENT)


def real_time(world: World) -> None:
    """From now on its clock is the world's own, and traffic comes while it sleeps."""

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        world.pass_time(seconds)

    world.clock.sleep = sleep  # type: ignore[method-assign]
    world.clock.now_s = time.time  # type: ignore[method-assign]


def main() -> None:
    namespace, top, route = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    its_rollouts = rollouts(Cluster.connect(namespace), top)
    while True:
        for folder in its_rollouts.undriven():
            if not has_ended(folder) and drive(its_rollouts, folder, route):
                return
        time.sleep(LOOK_EVERY_S)


def drive(its_rollouts: ClusterRollouts, folder: Path, route: Path) -> bool:
    plan = read_plan(folder)
    assert plan is not None
    world = World(seed=1)
    world.now = time.time()
    world.router = FileRoute(route)
    real_time(world)
    # The processes of both slots outlive this one.
    world.reconciler.ready_after_s = 0
    ports: Any = dataclasses.replace(world.ports(), journal=its_rollouts.journal(folder))
    try:
        ended = run(plan, upgrade_slots(), ports)
    except AlreadyRunning:
        return False
    print(json.dumps({"phase": ended.phase, "pid": os.getpid()}), flush=True)
    return True


if __name__ == "__main__":
    main()
