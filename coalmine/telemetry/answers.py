"""What one model's servers answered, and how right it was: from their own /metrics.

The proxy cannot see either. A server that was started again counts anew: `Answers.epoch` is the
time of its start, as it exports it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from coalmine.endpoint import Endpoint, Unreachable
from coalmine.errors import TelemetryUnavailable
from coalmine.evaluation.reference import key as distribution_key
from coalmine.rollout.evidence import Answers
from coalmine.slots import Slot
from coalmine.telemetry.exposition import Sample, finite, parse

SERVER_TIMEOUT_S = 1.0
LARGEST_ANSWER = 1 << 20

_SCORES = "coalmine_score_bucket"
_LABELS = "coalmine_loss_count"
_LOSS = "coalmine_loss_sum"
_STARTED = "coalmine_started_seconds"
_BINNED = "coalmine_binned_total"


class ServersAnswers:
    """ports: where the server of each slot listens on this machine. binned: whether to read that too."""

    def __init__(self, model: str, ports: Mapping[Slot, int], *, binned: bool = False) -> None:
        self._servers = {slot: _Server(f"{model}-{slot}", port, binned) for slot, port in ports.items()}

    def read(self, slot: Slot) -> Answers:
        """
        Raises:
            TelemetryUnavailable: the server is down, or what it says cannot be trusted.
        """
        return self._servers[slot].read()


class _Server:
    def __init__(self, name: str, port: int, binned: bool) -> None:
        self._name = name
        self._binned = binned
        self._endpoint = Endpoint(f"127.0.0.1:{port}", SERVER_TIMEOUT_S, LARGEST_ANSWER)
        self._last: Answers | None = None
        self._lives = 0

    def read(self) -> Answers:
        try:
            answers = answers_in(self._metrics(), binned=self._binned)
        except TelemetryUnavailable as error:
            raise TelemetryUnavailable(f"What {self._name} answered is not known: {error}") from error
        return self._with_epoch(answers)

    def _metrics(self) -> str:
        try:
            answer = self._endpoint.get("/metrics")
        except Unreachable as error:
            raise TelemetryUnavailable(f"its server gives no /metrics ({error})") from error
        if answer.status != 200:
            raise TelemetryUnavailable(f"its server answers {answer.status} to /metrics")
        return answer.body.decode(errors="replace")

    def _with_epoch(self, answers: Answers) -> Answers:
        """A server that does not say when it started is known to be another by counting less."""
        if answers.epoch:
            return answers
        if self._last is not None and _is_less(answers, self._last):
            self._lives += 1
        self._last = answers
        return replace(answers, epoch=f"life {self._lives}")


def answers_in(metrics: str, *, binned: bool = False) -> Answers:
    """The answers in a server's /metrics. `scores` ends with (inf, all rows). binned: those too.

    Raises:
        TelemetryUnavailable: they are not there, are no counts, or are there for several models.
    """
    wanted = (_SCORES, _LABELS, _LOSS, _STARTED)
    samples = list(parse(metrics, (*wanted, _BINNED) if binned else wanted))
    started = _only(samples, _STARTED)
    labels, loss = _only(samples, _LABELS), _only(samples, _LOSS)
    if labels is None or loss is None:
        raise TelemetryUnavailable("its /metrics has no coalmine_loss: is that a model server of coalmine?")
    return Answers(
        epoch="" if started is None else repr(finite(started)),
        scores=_scores([sample for sample in samples if sample.series.name == _SCORES]),
        labels=labels.count,
        loss=finite(loss),
        binned=by_bin(
            (*(sample.series.labels.get(each, "") for each in ("of", "name", "bin")), sample.count)
            for sample in samples
            if sample.series.name == _BINNED
        ),
    )


def by_bin(counts: Iterable[tuple[Any, ...]]) -> dict[str, tuple[int, ...]]:
    """Rows by bin for each distribution of a reference, from (feature or score, its name, bin, rows).

    Raises:
        TelemetryUnavailable: bins that are not there once each.
    """
    found: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for of, name, place, rows in counts:
        found[distribution_key(of, name)].append((place, rows))
    for key, bins in found.items():
        if sorted(place for place, _ in bins) != sorted(map(str, range(len(bins)))):
            raise TelemetryUnavailable(f"the bins of the {key} are not all there, once each")
    return {
        key: tuple(rows for _, rows in sorted((int(place), rows) for place, rows in bins))
        for key, bins in found.items()
    }


def _scores(samples: list[Sample]) -> tuple[tuple[float, int], ...]:
    scores: dict[float, int] = {}
    for sample in samples:
        bound = float(sample.series.labels["le"])  # "+Inf" too
        if bound in scores:
            raise TelemetryUnavailable(f"its /metrics has several series of {_SCORES} where one was meant")
        scores[bound] = sample.count
    ascending = tuple(sorted(scores.items()))
    counts = [count for _, count in ascending]
    if not ascending or ascending[-1][0] != math.inf or counts != sorted(counts):
        raise TelemetryUnavailable(f"its {_SCORES} is no histogram")
    return ascending


def _only(samples: list[Sample], name: str) -> Sample | None:
    ours = [sample for sample in samples if sample.series.name == name]
    if len(ours) > 1:
        raise TelemetryUnavailable(f"its /metrics has {len(ours)} series of {name} where one was meant")
    return ours[0] if ours else None


def _is_less(now: Answers, before: Answers) -> bool:
    rows, rows_before = now.scores[-1][1], before.scores[-1][1]
    return rows < rows_before or now.labels < before.labels or now.loss < before.loss
