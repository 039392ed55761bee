"""What a server tells Prometheus: by model, version and slot, in base units.

Inference requests only; health checks and scrapes would drown them. Counts are plain numbers,
written by the event loop alone, and become Prometheus's when somebody scrapes: that is rare, and
requests are not. Series exist from the start, at zero, so that a first failure is seen as a rise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from coalmine.serving.memory import LabelOutcome
from coalmine.serving.refusal import FailureKind
from coalmine.spec import Task

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_DURATION_BOUNDS_S = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
_PROBABILITY_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 21))
_MAGNITUDES = [digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5)]
# The scale of a prediction is not known before it serves.
_PREDICTION_BOUNDS = (*(-each for each in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES)


class Distribution:
    """Counts by bucket, as a Prometheus histogram has them; the last one holds what is beyond."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum of all values."""
        total, buckets = 0, []
        for bound, count in zip([*map(_text, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._sum


class Telemetry(Collector):
    """
    started_s: since when it counts, in seconds since the epoch. in_flight: how many requests are under
    way, asked at a scrape; payloads: what became of them.
    """

    def __init__(
        self,
        fixed: Mapping[str, str],
        task: Task,
        started_s: float,
        in_flight: Callable[[], int],
        payloads: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        self._fixed = fixed
        self._started_s = started_s
        self._in_flight = in_flight
        self._payloads = payloads
        self._output = "prediction" if task is Task.REGRESSION else "probability"
        self._codes = {200: 0}
        self._failures = dict.fromkeys(FailureKind, 0)
        self._labels = dict.fromkeys(LabelOutcome, 0)
        self._rows = 0
        self._durations = Distribution(_DURATION_BOUNDS_S)
        self._scores = Distribution(_PREDICTION_BOUNDS if task is Task.REGRESSION else _PROBABILITY_BOUNDS)
        self._losses, self._loss_sum = 0, 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, code: int, duration_s: float) -> None:
        self._codes[code] = self._codes.get(code, 0) + 1
        self._durations.observe(duration_s)

    def failed(self, kind: FailureKind) -> None:
        self._failures[kind] += 1

    def predicted(self, outputs: Mapping[str, Sequence[float]]) -> None:
        scores = outputs[self._output]
        self._rows += len(scores)
        for score in scores:
            self._scores.observe(score)

    def labelled(self, outcome: LabelOutcome) -> None:
        self._labels[outcome] += 1

    def lost(self, loss: float) -> None:
        self._losses += 1
        self._loss_sum += loss

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield self._counter("requests", "Inference requests answered", "code", _by_name(self._codes))
        yield self._counter(
            "failures", "Inference requests without a prediction", "kind", _by_name(self._failures)
        )
        yield self._counter(
            "labels", "True labels received, by request id", "outcome", _by_name(self._labels)
        )
        rows = CounterMetricFamily("coalmine_rows", "Rows predicted", labels=list(self._fixed))
        rows.add_metric(list(self._fixed.values()), self._rows)
        yield rows
        yield self._histogram(
            "request_duration_seconds", "From the request's head to its answer", self._durations
        )
        yield self._histogram("score", f"The {self._output} answered for a row", self._scores)
        losses = SummaryMetricFamily(
            "coalmine_loss", "Loss in [0, 1] of requests whose label came", labels=list(self._fixed)
        )
        losses.add_metric(list(self._fixed.values()), self._losses, self._loss_sum)
        yield losses
        yield self._gauge("in_flight", "Requests not answered yet", self._in_flight())
        yield self._gauge("started_seconds", "Since when this server counts", self._started_s)
        if self._payloads is not None:
            yield self._counter(
                "payloads", "Payload events, by what became of them", "outcome", self._payloads()
            )

    def _counter(self, name: str, words: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
        family = CounterMetricFamily(f"coalmine_{name}", words, labels=[*self._fixed, label])
        for value, count in counts.items():
            family.add_metric([*self._fixed.values(), value], count)
        return family

    def _gauge(self, name: str, words: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"coalmine_{name}", words, labels=list(self._fixed))
        family.add_metric(list(self._fixed.values()), value)
        return family

    def _histogram(self, name: str, words: str, distribution: Distribution) -> HistogramMetricFamily:
        family = HistogramMetricFamily(f"coalmine_{name}", words, labels=list(self._fixed))
        buckets, total = distribution.buckets()
        family.add_metric(list(self._fixed.values()), buckets, total)
        return family


def _by_name(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(value): count for value, count in counts.items()}


def _text(bound: float) -> str:
    return str(float(bound))
