"""What a server tells Prometheus: by model, version and slot, in base units.

Inference requests only; health checks and scrapes would drown them. Requests, failures and durations
are told apart by who asked (`audience`). Counts are plain numbers, written by the event loop alone, and
become Prometheus's when somebody scrapes: that is rare, and requests are not. Series exist from the start,
at zero, so that a first failure is seen as a rise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from coalmine.serving.audience import Audience
from coalmine.serving.memory import LabelOutcome
from coalmine.serving.refusal import FailureKind
from coalmine.spec import Task

_Labels = tuple[str, ...]

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


class _Asked:
    """What one audience asked."""

    __slots__ = ("codes", "durations", "failures")

    def __init__(self) -> None:
        self.codes = {200: 0}
        self.failures = dict.fromkeys(FailureKind, 0)
        self.durations = Distribution(_DURATION_BOUNDS_S)


class Telemetry(Collector):
    """
    digest: of the release, as its manifest has it. started_s: since when it counts, in seconds since the
    epoch. in_flight: how many requests are under way, asked at a scrape; payloads: what became of them.
    binned: what the release's reference counts, as Prometheus has it.
    """

    def __init__(
        self,
        fixed: Mapping[str, str],
        digest: str,
        task: Task,
        started_s: float,
        in_flight: Callable[[], int],
        payloads: Callable[[], Mapping[str, int]] | None = None,
        binned: Callable[[], bytes] | None = None,
    ) -> None:
        self._fixed = fixed
        self._digest = digest
        self._started_s = started_s
        self._in_flight = in_flight
        self._payloads = payloads
        self._binned = binned
        self._output = "prediction" if task is Task.REGRESSION else "probability"
        self._asked = {audience: _Asked() for audience in Audience}
        self._labels = dict.fromkeys(LabelOutcome, 0)
        self._rows = 0
        self._scores = Distribution(_PREDICTION_BOUNDS if task is Task.REGRESSION else _PROBABILITY_BOUNDS)
        self._losses, self._loss_sum = 0, 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, audience: Audience, code: int, duration_s: float) -> None:
        asked = self._asked[audience]
        asked.codes[code] = asked.codes.get(code, 0) + 1
        asked.durations.observe(duration_s)

    def failed(self, audience: Audience, kind: FailureKind) -> None:
        self._asked[audience].failures[kind] += 1

    def predicted(self, audience: Audience, outputs: Mapping[str, Sequence[float]]) -> None:
        scores = outputs[self._output]
        self._rows += len(scores)
        if audience is not Audience.TESTERS:  # who try the odd
            for score in scores:
                self._scores.observe(score)

    def labelled(self, outcome: LabelOutcome) -> None:
        self._labels[outcome] += 1

    def lost(self, loss: float) -> None:
        self._losses += 1
        self._loss_sum += loss

    def exposition(self) -> bytes:
        binned = b"" if self._binned is None else self._binned()
        return generate_latest(self._registry) + binned

    def collect(self) -> Iterator[Metric]:
        requests: dict[_Labels, int] = {
            (who, str(code)): n for who, asked in self._asked.items() for code, n in asked.codes.items()
        }
        failures: dict[_Labels, int] = {
            (who, kind.value): n for who, asked in self._asked.items() for kind, n in asked.failures.items()
        }
        labels: dict[_Labels, int] = {(outcome.value,): n for outcome, n in self._labels.items()}
        yield self._counter("requests", "Inference requests answered", ("audience", "code"), requests)
        yield self._counter(
            "failures", "Inference requests without a prediction", ("audience", "kind"), failures
        )
        yield self._counter("labels", "True labels received, by request id", ("outcome",), labels)
        rows = CounterMetricFamily("coalmine_rows", "Rows predicted", labels=list(self._fixed))
        rows.add_metric(list(self._fixed.values()), self._rows)
        yield rows
        durations: dict[_Labels, Distribution] = {
            (who,): asked.durations for who, asked in self._asked.items()
        }
        yield self._histogram(
            "request_duration_seconds", "From the request's head to its answer", ("audience",), durations
        )
        about_scores = f"The {self._output} answered for a row, to all but testers"
        yield self._histogram("score", about_scores, (), {(): self._scores})
        losses = SummaryMetricFamily(
            "coalmine_loss", "Loss in [0, 1] of requests whose label came", labels=list(self._fixed)
        )
        losses.add_metric(list(self._fixed.values()), self._losses, self._loss_sum)
        yield losses
        yield self._gauge("in_flight", "Requests not answered yet", self._in_flight())
        yield self._gauge("started_seconds", "Since when this server counts", self._started_s)
        release = GaugeMetricFamily(
            "coalmine_release", "Which release is served", labels=[*self._fixed, "digest"]
        )
        release.add_metric([*self._fixed.values(), self._digest], 1)
        yield release
        if self._payloads is not None:
            payloads: dict[_Labels, int] = {(outcome,): n for outcome, n in self._payloads().items()}
            yield self._counter("payloads", "Payload events, by what became of them", ("outcome",), payloads)

    def _counter(
        self, name: str, words: str, labels: tuple[str, ...], counts: Mapping[_Labels, int]
    ) -> CounterMetricFamily:
        family = CounterMetricFamily(f"coalmine_{name}", words, labels=[*self._fixed, *labels])
        for values, count in counts.items():
            family.add_metric([*self._fixed.values(), *values], count)
        return family

    def _gauge(self, name: str, words: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"coalmine_{name}", words, labels=list(self._fixed))
        family.add_metric(list(self._fixed.values()), value)
        return family

    def _histogram(
        self,
        name: str,
        words: str,
        labels: tuple[str, ...],
        distributions: Mapping[_Labels, Distribution],
    ) -> HistogramMetricFamily:
        family = HistogramMetricFamily(f"coalmine_{name}", words, labels=[*self._fixed, *labels])
        for values, distribution in distributions.items():
            buckets, total = distribution.buckets()
            family.add_metric([*self._fixed.values(), *values], buckets, total)
        return family


def _text(bound: float) -> str:
    return str(float(bound))
