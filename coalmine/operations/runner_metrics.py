"""The runner's own numbers, for Prometheus, and whether it is well.

`coalmine_runner_last_success_timestamp_seconds` is the one to alert on while rollouts are under
way: it stands still when nothing can be measured any more. Nothing here is labelled by model: how
a rollout does stands in its journal.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from coalmine.errors import CoalmineError, MachineUnready
from coalmine.rollout.state import Phase

_TICK_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_LATE_S = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60)
LOOPBACK = "127.0.0.1"
LOOKED_WITHIN_S = 30.0  # it looks every second


class RunnerMetrics:
    """Written by the rollouts' threads, each through `of(model)`; read by whoever scrapes."""

    def __init__(self, environment: str, cluster_requests: Callable[[], int | None] = lambda: None) -> None:
        """cluster_requests: how many were made of an API server so far; None: there is none."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_ClusterRequests(cluster_requests))
        self._phases: dict[str, Phase] = {}
        self._looked_s = time.monotonic()
        rollouts = Gauge("coalmine_runner_rollouts", "Rollouts under way.", ["phase"], registry=registry)
        for phase in Phase:
            rollouts.labels(phase.value).set_function(partial(self._in, phase))
        info = Gauge("coalmine_runner_info", "What it runs for.", ["environment"], registry=registry)
        info.labels(environment).set(1)
        self._ticks = Histogram(
            "coalmine_runner_tick_seconds",
            "How long it took to look at a rollout, decide and act.",
            buckets=_TICK_S,
            registry=registry,
        )
        self._late = Histogram(
            "coalmine_runner_poll_lag_seconds",
            "How long after it was due a rollout was looked at.",
            buckets=_LATE_S,
            registry=registry,
        )
        self._port_errors = Counter(
            "coalmine_runner_port_errors",
            "What a rollout's ports raised.",
            ["port", "kind"],
            registry=registry,
        )
        self._restarts = Counter(
            "coalmine_runner_restarts",
            "Rollouts whose driving failed, to be driven again after a pause.",
            ["kind"],
            registry=registry,
        )
        self._endings = Counter(
            "coalmine_runner_endings", "Rollouts that ended.", ["phase"], registry=registry
        )
        for phase in Phase:
            if phase.ended:
                self._endings.labels(phase.value)  # at zero, so that the first is seen as a rise
        self._last_success = Gauge(
            "coalmine_runner_last_success_timestamp_seconds",
            "When a rollout was last looked at without an error of any port.",
            registry=registry,
        )
        self._last_look = Gauge(
            "coalmine_runner_last_look_timestamp_seconds",
            "When it last looked for rollouts that were handed over.",
            registry=registry,
        )

    def _in(self, phase: Phase) -> float:
        return Tally(list(self._phases.values()))[phase]

    def of(self, model: str) -> RolloutWatch:
        return RolloutWatch(self, model)

    def ticked(self, took_s: float, late_s: float, *, well: bool) -> None:
        self._ticks.observe(took_s)
        self._late.observe(late_s)
        if well:
            self._last_success.set_to_current_time()

    def port_failed(self, port: str, error: CoalmineError) -> None:
        self._port_errors.labels(port, type(error).__name__).inc()

    def in_phase(self, model: str, phase: Phase) -> None:
        if phase.ended and self._phases.get(model) is not phase:
            self._endings.labels(phase.value).inc()
        self._phases[model] = phase

    def left(self, model: str) -> None:
        """Nobody here drives a rollout of `model` any more."""
        self._phases.pop(model, None)

    def restarting(self, error: Exception) -> None:
        self._restarts.labels(type(error).__name__).inc()

    def looked(self) -> None:
        self._looked_s = time.monotonic()
        self._last_look.set_to_current_time()

    @property
    def is_well(self) -> bool:
        return time.monotonic() - self._looked_s < LOOKED_WITHIN_S


class _ClusterRequests(Collector):
    def __init__(self, count: Callable[[], int | None]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        count = self._count()
        if count is not None:
            words = "Requests of the API server, watches included."
            yield CounterMetricFamily("coalmine_runner_cluster_requests", words, value=count)


class RolloutWatch:
    """What one rollout's clock and ports tell."""

    def __init__(self, metrics: RunnerMetrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._well = True

    def ticked(self, took_s: float, late_s: float) -> None:
        self._metrics.ticked(took_s, late_s, well=self._well)
        self._well = True

    def port_failed(self, port: str, error: CoalmineError) -> None:
        self._well = False
        self._metrics.port_failed(port, error)

    def saved(self, phase: Phase) -> None:
        self._metrics.in_phase(self._model, phase)


class Scraped(Protocol):
    """Numbers of a service, and whether it is well."""

    @property
    def registry(self) -> CollectorRegistry: ...

    @property
    def is_well(self) -> bool: ...


@contextmanager
def served(metrics: Scraped, port: int | None, host: str = LOOPBACK) -> Iterator[None]:
    """`/metrics` and `/healthz` at `host` while the block runs; nothing where `port` is None.

    Raises:
        MachineUnready: the port is taken, or `host` is no address of this machine.
    """
    if port is None:
        yield
        return
    try:
        server = ThreadingHTTPServer((host, port), _handler(metrics))
    except OSError as error:
        raise MachineUnready(
            f"{host}:{port} cannot be listened on ({error.strerror}). "
            f"End the program that holds it (`lsof -i :{port}` names it), or give another "
            "--metrics-port or --metrics-host; of coalmine watch, another --metrics."
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _handler(metrics: Scraped) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # a client that says nothing must not keep a thread

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
            elif self.path == "/healthz":
                well = metrics.is_well
                said = b"ok\n" if well else b"it does not look any more\n"
                self._answer(200 if well else 503, "text/plain", said)
            else:
                self._answer(404, "text/plain", b"/metrics and /healthz are here\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are no news."""

    return Handler
