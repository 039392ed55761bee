"""What a server tells Prometheus: by model, version and slot, in base units.

Inference requests only; health checks and scrapes would drown them. Series exist from the
start, at zero, so that a first failure is seen as a rise.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
)

from coalmine.evaluation.predictions import Predictions
from coalmine.serving.memory import LabelOutcome
from coalmine.serving.refusal import FailureKind
from coalmine.spec import Task

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_DURATION_BOUNDS_S = (
    *(0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3),
    *(0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
_PROBABILITY_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 21))
_MAGNITUDES = [digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5)]
# The scale of a prediction is not known before it serves.
_PREDICTION_BOUNDS = (*(-each for each in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES)


class Telemetry:
    def __init__(self, model: str, version: str, slot: str, task: Task) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._fixed = {"model_name": model, "model_version": version, "slot": slot}
        self._requests = self._counter("requests", "Inference requests answered", "code")
        failures = self._counter("failures", "Inference requests without a prediction", "kind")
        self._failures = {kind: failures.labels(**self._fixed, kind=kind.value) for kind in FailureKind}
        labels = self._counter("labels", "True labels received, by request id", "outcome")
        self._labels = {each: labels.labels(**self._fixed, outcome=each.value) for each in LabelOutcome}
        self._rows = self._counter("rows", "Rows predicted").labels(**self._fixed)
        self._durations = self._histogram(
            "request_duration_seconds", "From the request's head to its answer", _DURATION_BOUNDS_S
        )
        self._output = "prediction" if task is Task.REGRESSION else "probability"
        bounds = _PREDICTION_BOUNDS if task is Task.REGRESSION else _PROBABILITY_BOUNDS
        self._scores = self._histogram("score", f"The {self._output} answered for a row", bounds)
        self._loss = Summary(
            "coalmine_loss",
            "Loss in [0, 1] of requests whose label came",
            self._fixed,
            registry=self._registry,
        ).labels(**self._fixed)
        self.in_flight = Gauge(
            "coalmine_in_flight", "Inference requests not answered yet", self._fixed, registry=self._registry
        ).labels(**self._fixed)
        self._codes = {200: self._requests.labels(**self._fixed, code="200")}

    def answered(self, code: int, duration_s: float) -> None:
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = self._requests.labels(**self._fixed, code=str(code))
        counter.inc()
        self._durations.observe(duration_s)

    def failed(self, kind: FailureKind) -> None:
        self._failures[kind].inc()

    def predicted(self, predictions: Predictions) -> None:
        scores = predictions.outputs[self._output].tolist()
        self._rows.inc(len(scores))
        for score in scores:
            self._scores.observe(score)

    def labelled(self, outcome: LabelOutcome) -> None:
        self._labels[outcome].inc()

    def lost(self, loss: float) -> None:
        self._loss.observe(loss)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def _counter(self, name: str, words: str, *more: str) -> Counter:
        return Counter(f"coalmine_{name}", words, [*self._fixed, *more], registry=self._registry)

    def _histogram(self, name: str, words: str, bounds: Sequence[float]) -> Histogram:
        metric = Histogram(f"coalmine_{name}", words, self._fixed, buckets=bounds, registry=self._registry)
        return metric.labels(**self._fixed)
