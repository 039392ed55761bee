"""What `coalmine watch` found, for Prometheus, and whether it still looks.

`coalmine_watch_finding` is there, at 1, for as long as a finding is. A look that fails leaves all as it was,
and `coalmine_watch_last_look_timestamp_seconds` standing still: alert on both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class WatchMetrics:
    """every_s: between two looks, so that it is known when one is overdue."""

    def __init__(self, environment: str, every_s: float) -> None:
        self.registry = registry = CollectorRegistry()
        self._findings = _Findings(environment)
        registry.register(self._findings)
        self._overdue_after_s = max(3 * every_s, 60.0)
        self._looked_s = time.monotonic()
        self._last_look = Gauge(
            "coalmine_watch_last_look_timestamp_seconds",
            "When the environment was last looked at, as a whole.",
            ["environment"],
            registry=registry,
        ).labels(environment)
        self._took = Gauge(
            "coalmine_watch_look_seconds", "How long the last look took.", ["environment"], registry=registry
        ).labels(environment)
        self._untold = Gauge(
            "coalmine_watch_untold",
            "Addresses that could not be told of what was found.",
            ["environment"],
            registry=registry,
        ).labels(environment)
        self._healed = Counter(
            "coalmine_watch_healed",
            "Findings that were mended, or were tried to be.",
            ["environment", "kind", "outcome"],
            registry=registry,
        )
        self._environment = environment

    def looked(
        self, found: list[tuple[str, str, str]], healed: list[tuple[str, bool]], untold: int, took_s: float
    ) -> None:
        """found: kind, model and subject of each finding. healed: the kinds, and whether it was done."""
        self._findings.found = found
        for kind, is_done in healed:
            self._healed.labels(self._environment, kind, "done" if is_done else "failed").inc()
        self._untold.set(untold)
        self._took.set(took_s)
        self._last_look.set_to_current_time()
        self._looked_s = time.monotonic()

    @property
    def is_well(self) -> bool:
        return time.monotonic() - self._looked_s < self._overdue_after_s


class _Findings(Collector):
    def __init__(self, environment: str) -> None:
        self._environment = environment
        self.found: list[tuple[str, str, str]] = []

    def collect(self) -> Iterator[Metric]:
        words = "What is not as Git says; there for as long as it is so."
        family = GaugeMetricFamily(
            "coalmine_watch_finding", words, labels=["environment", "kind", "model", "subject"]
        )
        for labels in self.found:
            family.add_metric([self._environment, *labels], 1)
        yield family
