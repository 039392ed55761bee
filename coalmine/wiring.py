"""The only place where adapters are made, by what coalmine.yaml says of an environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from coalmine.audit.record import GitRecord
from coalmine.checks.query import QueryCheck
from coalmine.checks.webhook import AskedAbout, WebhookCheck
from coalmine.cluster.client import Cluster
from coalmine.errors import Unsupported
from coalmine.reconcilers.apply import ApplyReconciler
from coalmine.reconcilers.flux import FluxReconciler, Pushed
from coalmine.reconcilers.kustomize import KustomizeRender
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.reconcilers.processes import ProcessesReconciler
from coalmine.registry.repository import Repository
from coalmine.registry.upstream import Upstream
from coalmine.rollout.evidence import Answers
from coalmine.rollout.ports import Check, Journal, Reconciler, Telemetry, TrafficRouter
from coalmine.rollout.runner import Ports
from coalmine.rollout_spec import (
    AgreementSpec,
    GateSpec,
    PredictionsSpec,
    QualitySpec,
    QuerySpec,
    WebhookSpec,
    gate_name,
)
from coalmine.routers.appmesh import APP_MESH
from coalmine.routers.cluster_route import ClusterRouter
from coalmine.routers.envoy import EnvoyRouter
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.routers.istio import ISTIO
from coalmine.routers.linkerd import LINKERD
from coalmine.routers.technology import Technology
from coalmine.settings import Environment, GitSettings, PrometheusSettings
from coalmine.slots import Slot, SlotRelease
from coalmine.spec import ModelSpec
from coalmine.telemetry.answers import ServersAnswers
from coalmine.telemetry.lives import answers_by_life
from coalmine.telemetry.pairs import ServedPairs, of_this_machine
from coalmine.telemetry.pods import ModelPods
from coalmine.telemetry.prometheus import Prometheus
from coalmine.telemetry.prometheus_counts import Find, PrometheusTelemetry
from coalmine.telemetry.proxies import BY_ROUTER
from coalmine.telemetry.scrape import ScrapeTelemetry
from coalmine.telemetry.server_series import query, seen


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


def local_adapters(
    model: str, timeout_s: float, endpoints: Endpoints, gates: Sequence[GateSpec] = ()
) -> Adapters:
    """What serves `model` on this machine.

    gates: what the telemetry is read for. Users' requests are always counted; answers and pairs cost two
        more requests a poll each, and are read where a gate needs them.

    Raises:
        RouterUnavailable: the proxy cannot be told about the model; safe to retry.
    """
    router = EnvoyRouter(model, endpoints.config_folder, endpoints.admin_address, timeout_s)
    router.declare(endpoints.slots)
    return Adapters(
        router,
        _telemetry(model, endpoints, gates),
        ProcessesReconciler(model, endpoints.process_folder, endpoints.serve),
    )


TECHNOLOGIES: Mapping[str, Technology] = {
    technology.component: technology for technology in (GATEWAY_API, ISTIO, LINKERD, APP_MESH)
}


def cluster_adapters(
    environment: Environment,
    spec: ModelSpec,
    cluster: Cluster,
    repository: Repository,
    git: GitSettings,
    gates: Sequence[GateSpec] = (),
) -> Adapters:
    """What serves the model of `spec` in the namespace of `cluster`."""
    return Adapters(
        ClusterRouter(cluster, spec.name, TECHNOLOGIES[environment.router]),
        _counts(environment, spec, cluster, gates),
        _cluster_reconciler(environment, spec.name, cluster, repository, git),
    )


def _counts(
    environment: Environment, spec: ModelSpec, cluster: Cluster, gates: Sequence[GateSpec]
) -> Telemetry:
    assert environment.prometheus is not None
    pods = ModelPods(cluster, spec.name)
    answered, tolerance = _asked_of_servers(gates)
    return PrometheusTelemetry(
        spec.name,
        cluster.namespace,
        _prometheus(environment.prometheus).find,
        pods.ready,
        BY_ROUTER.get(environment.router),
        answered=answered,
        pairs=None if tolerance is None else ServedPairs(pods.servers, tolerance),
    )


def _cluster_reconciler(
    environment: Environment, model: str, cluster: Cluster, repository: Repository, git: GitSettings
) -> Reconciler:
    assert environment.kubernetes is not None
    upstream = Upstream(repository, git.remote, git.branch)
    flux = environment.kubernetes.flux
    if flux is None:
        return ApplyReconciler(cluster, model, KustomizeRender(repository.export, repository.head))
    pushed = Pushed(git.branch, lambda: upstream.tip() or repository.head(), repository.is_before)
    return FluxReconciler(cluster, model, flux, pushed)


def _telemetry(model: str, endpoints: Endpoints, gates: Sequence[GateSpec]) -> Telemetry:
    answered, tolerance = _asked_of_servers(gates)
    servers = of_this_machine(model, endpoints.slots)
    return ScrapeTelemetry(
        model,
        endpoints.admin_address,
        answers=ServersAnswers(model, endpoints.slots) if answered else None,
        pairs=None if tolerance is None else ServedPairs(servers, tolerance),
    )


def _asked_of_servers(gates: Sequence[GateSpec]) -> tuple[bool, float | None]:
    """Whether a gate needs the answers' scores and labels, and the tolerance of the one that needs pairs."""
    answered = any(isinstance(gate, PredictionsSpec | QualitySpec) for gate in gates)
    tolerances = (gate.tolerance for gate in gates if isinstance(gate, AgreementSpec))
    return answered, next(tolerances, None)


def local_answers(model: str, slots: Mapping[Slot, int], slot: Slot) -> Mapping[str, Answers]:
    """What the slot's server has counted since it began, by life. slots: the port of each slot's server.

    Raises:
        TelemetryUnavailable: it is down.
    """
    answers = ServersAnswers(model, slots, binned=True).read(slot)
    return {answers.epoch: answers}


def cluster_answers(
    environment: Environment, model: str, namespace: str, slot: Slot
) -> Mapping[str, Answers]:
    """What the slot's pods have counted since each server began, by life, as of their last scrapes.

    Raises:
        TelemetryUnavailable: Prometheus is away, or what it says cannot be trusted.
    """
    found = find_series(environment)(query(model, namespace, answered=True, binned=True))
    return answers_by_life(seen(found), slot)


def checks(environment: Environment, gates: Sequence[GateSpec], about: AskedAbout) -> dict[str, Check]:
    """Whoever the gates ask, by the name of the gate.

    Raises:
        Unsupported: a gate asks Prometheus, and the environment has none.
    """
    asked: dict[str, Check] = {}
    for gate in gates:
        match gate:
            case QuerySpec():
                ask = _prometheus(_prometheus_of(environment, gate, about.environment)).ask
                asked[gate_name(gate)] = QueryCheck(gate, about.model, ask)
            case WebhookSpec():
                asked[gate_name(gate)] = WebhookCheck(gate, about)
            case _:
                pass  # decided by counts or by a person
    return asked


def _prometheus_of(environment: Environment, gate: QuerySpec, name: str) -> PrometheusSettings:
    if environment.prometheus is None:
        raise Unsupported(
            f"The gate `{gate_name(gate)}` asks Prometheus, and environments.{name} in coalmine.yaml names "
            "none. Add it there: prometheus: {url: http://127.0.0.1:9090}"
        )
    return environment.prometheus


def find_series(environment: Environment) -> Find:
    """How the Prometheus of a cluster's environment is asked."""
    assert environment.prometheus is not None
    return _prometheus(environment.prometheus).find


@lru_cache(maxsize=16)
def _prometheus(settings: PrometheusSettings) -> Prometheus:
    """One for all rollouts of a process: they share its connections."""
    return Prometheus(settings)


def rollout_ports(
    chosen: Adapters,
    repository: Repository,
    git: GitSettings,
    folder: Path,
    journal: Journal,
    checks: Mapping[str, Check],
) -> Ports:
    """folder: the rollout's, in which `journal` lies."""
    return Ports(
        chosen.router,
        chosen.telemetry,
        chosen.reconciler,
        journal,
        GitRecord(repository, folder, git),
        SystemClock(),
        checks,
    )
