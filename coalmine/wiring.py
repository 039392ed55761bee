"""The only place where adapters are chosen, by what coalmine.yaml says of an environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coalmine.audit.record import GitRecord
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.reconcilers.processes import ProcessesReconciler
from coalmine.registry.repository import Repository
from coalmine.rollout.ports import Journal, Reconciler, Telemetry, TrafficRouter
from coalmine.rollout.runner import Ports
from coalmine.routers.envoy import EnvoyRouter
from coalmine.settings import Environment, GitSettings
from coalmine.slots import Slot, SlotRelease
from coalmine.telemetry.scrape import ScrapeTelemetry


@dataclass(frozen=True)
class Endpoints:
    """Where the parts of an environment are reached for one model.

    admin_address: of the proxy, `host:port`. slots: the port of each slot's server.
    serve: how a release becomes a running server.
    """

    admin_address: str
    config_folder: Path
    process_folder: Path
    slots: Mapping[Slot, int]
    serve: Callable[[Slot, SlotRelease], ProcessSpec]


@dataclass(frozen=True)
class Adapters:
    router: TrafficRouter
    telemetry: Telemetry
    reconciler: Reconciler


class SystemClock:
    def now_s(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def adapters(environment: Environment, model: str, timeout_s: float, endpoints: Endpoints) -> Adapters:
    """What serves `model` in `environment`.

    Raises:
        RouterUnavailable: the proxy cannot be told about the model; safe to retry.
    """
    match environment.router, environment.telemetry, environment.reconciler:
        case "envoy", "scrape", "processes":
            router = EnvoyRouter(model, endpoints.config_folder, endpoints.admin_address, timeout_s)
            router.declare(endpoints.slots)
            return Adapters(
                router,
                ScrapeTelemetry(model, endpoints.admin_address),
                ProcessesReconciler(model, endpoints.process_folder, endpoints.serve),
            )


def rollout_ports(
    chosen: Adapters, repository: Repository, git: GitSettings, folder: Path, journal: Journal
) -> Ports:
    """folder: the rollout's, in which `journal` lies."""
    return Ports(
        chosen.router,
        chosen.telemetry,
        chosen.reconciler,
        journal,
        GitRecord(repository, folder, git),
        SystemClock(),
    )
