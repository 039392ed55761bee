"""What happened to one model's users on a cluster: the model servers' own counts, from Prometheus.

One query finds every series of the model, as its pods had them at their last scrape. Pods come, go and start
anew, so the counts of each pod's life are added up here: what Prometheus forgets stays counted, and a pod
that starts at zero takes nothing back. The epoch is therefore the life of this object.

Each pod is scraped at a moment of its own: `Reading.late_s` says how far back the oldest lies. What never
reached a pod, such as a connection that was refused, no server counts, and `Reading.missing` says so.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Answers, Arm, Counters, Pairs, Reading
from coalmine.slots import Slot
from coalmine.telemetry.access_log import together
from coalmine.telemetry.prometheus import Instant

STALE_S = 90.0  # samples as old are of a pod that is gone, or of a Prometheus that does not scrape it

USERS, COPIES = "users", "copies"  # audiences, as the servers call them
_REQUESTS, _DURATIONS = "coalmine_requests_total", "coalmine_request_duration_seconds_bucket"
_SCORES, _LABELS, _LOSS = "coalmine_score_bucket", "coalmine_loss_count", "coalmine_loss_sum"
_STARTED = "coalmine_started_seconds"
_NAMES = (_REQUESTS, _DURATIONS, _SCORES, _LABELS, _LOSS, _STARTED)

Find = Callable[[str], Sequence[Instant]]
"""All series that a query finds now. Raises TelemetryUnavailable."""


class ReadsPairs(Protocol):
    def read(self) -> Pairs:
        """
        Raises:
            TelemetryUnavailable: a server is down, or what it says cannot be trusted.
        """


class PrometheusTelemetry:
    """The telemetry of `model` in `namespace`.

    pairs: how the two slots answered the same requests; None where no gate needs it.
    """

    def __init__(self, model: str, namespace: str, find: Find, pairs: ReadsPairs | None = None) -> None:
        self._model = model
        self._find = find
        self._pairs = pairs
        of_model = f'model_name="{model}",namespace="{namespace}"'
        self._all = f'{{__name__=~"{"|".join(_NAMES)}",{of_model}}}'
        self._ages = f"time() - timestamp({_STARTED}{{{of_model}}})"
        self._lives: dict[_LifeKey, _Life] = {}
        self._epoch = secrets.token_hex(8)
        self._began_s: float | None = None

    def read(self, candidate: Slot) -> Reading:
        """As the port says. Two queries."""
        found = self._find(self._all)
        at_s = max((each.at_s for each in found), default=time.time())
        present = self._take_in(found, at_s)
        self._require(candidate.other, present)
        late_s = self._late_s()
        slots = {Arm.CANDIDATE: candidate, Arm.STABLE: candidate.other}
        totals = {arm: self._total(slot) for arm, slot in slots.items()}
        bounds = {bound for total in totals.values() for bound in total.bounds}
        users = {arm: total.counters(USERS, bounds) for arm, total in totals.items()}
        missing = ["Requests that never reached a pod are not counted: the servers count, and no proxy."]
        return Reading(
            at_s=at_s,
            epoch=self._epoch,
            arms=users,
            mirrored={arm: together(users[arm], totals[arm].counters(COPIES, bounds)) for arm in Arm},
            answers={arm: total.answers(self._epoch) for arm, total in totals.items() if total.is_known},
            pairs=self._read_pairs(missing),
            missing=tuple(missing),
            late_s=late_s,
        )

    def _take_in(self, found: Sequence[Instant], at_s: float) -> set[_LifeKey]:
        """Add what is new of each life; which lives Prometheus knows now."""
        pods: dict[tuple[Slot, str], dict[_Series, float]] = defaultdict(dict)
        for each in found:
            series = _series_of(each.labels)
            pod = pods[_slot_of(each.labels), _pod_of(each.labels)]
            if series in pod:
                raise TelemetryUnavailable(
                    f"Prometheus has several series {series[0]} of one pod, {_pod_of(each.labels)}: is it "
                    "scraped twice, or by two jobs? One of them must drop it"
                )
            pod[series] = _count(each.value, series)
        present = set()
        for (slot, pod_name), counts in pods.items():
            started_s = counts.pop((_STARTED,), None)
            if started_s is None:
                continue  # a scrape of which not all is there yet
            key = _LifeKey(slot, pod_name, started_s)
            present.add(key)
            if key not in self._lives:
                is_new = self._began_s is not None and started_s >= self._began_s
                self._lives[key] = _Life({} if is_new else dict(counts))
            self._lives[key].last = counts
        if self._began_s is None:
            self._began_s = at_s
        return present

    def _require(self, stable: Slot, present: set[_LifeKey]) -> None:
        """Of a candidate that nobody started there are no counts; of stable there must be."""
        if any(key.slot is stable for key in present):
            return
        if any(present):
            raise TelemetryUnavailable(
                f"Prometheus has no counts of {self._model} in slot {stable}: its pods are not scraped, or "
                "down. See: up{} in Prometheus"
            )
        raise TelemetryUnavailable(
            f"Prometheus has no counts of {self._model} at all: does it scrape the pods, with the label "
            "`namespace`? k8s/components/monitoring has a PodMonitor"
        )

    def _late_s(self) -> float:
        """How old the oldest sample is."""
        ages = [each.value for each in self._find(self._ages)]
        if not ages or not all(map(math.isfinite, ages)):
            raise TelemetryUnavailable(f"Prometheus does not say when it scraped the pods of {self._model}")
        if max(ages) > STALE_S:
            raise TelemetryUnavailable(
                f"Prometheus scraped a pod of {self._model} {max(ages):.0f} s ago: too long to go by. Is it "
                "overloaded, or its clock wrong?"
            )
        return max(0.0, *ages)

    def _total(self, slot: Slot) -> _Total:
        total = _Total()
        for key, life in self._lives.items():
            if key.slot is slot:
                total.add(life)
        return total

    def _read_pairs(self, missing: list[str]) -> Pairs | None:
        if self._pairs is None:
            return None
        try:
            return self._pairs.read()
        except TelemetryUnavailable as error:
            missing.append(str(error))
            return None


# --- lives of pods ---------------------------------------------------------------------

_Series = tuple[str, ...]  # the name, then what sets it apart within one pod


@dataclass(frozen=True)
class _LifeKey:
    slot: Slot
    pod: str
    started_s: float


@dataclass
class _Life:
    """base: what it had counted before this telemetry began."""

    base: Mapping[_Series, float]
    last: Mapping[_Series, float] = field(default_factory=dict)


class _Total:
    """What all lives of one slot counted."""

    def __init__(self) -> None:
        self._counts: defaultdict[_Series, float] = defaultdict(float)
        self.is_known = False

    def add(self, life: _Life) -> None:
        self.is_known = True
        for series, value in life.last.items():
            self._counts[series] += value - life.base.get(series, 0.0)

    @property
    def bounds(self) -> set[float]:
        """Of durations."""
        return {float(series[2]) for series in self._counts if series[0] == _DURATIONS} - {math.inf}

    def counters(self, audience: str, bounds: set[float]) -> Counters:
        codes = {series[2]: n for series, n in self._counts.items() if series[:2] == (_REQUESTS, audience)}
        within = {
            float(series[2]): n for series, n in self._counts.items() if series[:2] == (_DURATIONS, audience)
        }
        return Counters(
            requests=round(sum(codes.values())),
            failures=round(sum(n for code, n in codes.items() if code[0] not in "23")),
            durations=tuple((bound, round(within.get(bound, 0))) for bound in sorted(bounds)),
        )

    def answers(self, epoch: str) -> Answers:
        scores = {float(series[1]): n for series, n in self._counts.items() if series[0] == _SCORES}
        return Answers(
            epoch=epoch,
            scores=tuple((bound, round(scores[bound])) for bound in sorted(scores)),
            labels=round(self._counts.get((_LABELS,), 0.0)),
            loss=self._counts.get((_LOSS,), 0.0),
        )


def _series_of(labels: Mapping[str, str]) -> _Series:
    name = labels["__name__"]
    apart = {_REQUESTS: ("audience", "code"), _DURATIONS: ("audience", "le"), _SCORES: ("le",)}
    try:
        return (name, *(labels[each] for each in apart.get(name, ())))
    except KeyError as error:
        raise TelemetryUnavailable(
            f"{name} in Prometheus has no label {error}: its pods run a server of another version"
        ) from error


def _slot_of(labels: Mapping[str, str]) -> Slot:
    try:
        return Slot(labels["slot"])
    except (KeyError, ValueError) as error:
        raise TelemetryUnavailable(
            f"{labels['__name__']} in Prometheus has no label `slot` that is one: {dict(labels)}"
        ) from error


def _pod_of(labels: Mapping[str, str]) -> str:
    """Its name, or where it is scraped, whichever Prometheus keeps."""
    return labels.get("pod") or labels.get("instance", "")


def _count(value: float, series: _Series) -> float:
    if not math.isfinite(value) or value < 0:
        raise TelemetryUnavailable(f"{series[0]} is {value:g} in Prometheus: that is no count")
    return value
