"""What a model's pods have counted, as Prometheus has it from the last scrape of each. Pure.

One query finds everything at one moment, so that all series of a pod are of one and the same scrape. What
is not whole, is there twice, or is no number is no measurement.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coalmine.errors import TelemetryUnavailable
from coalmine.slots import Slot
from coalmine.telemetry.prometheus import Instant

USERS, COPIES = "users", "copies"  # audiences, as the servers call them
REQUESTS, DURATIONS = "coalmine_requests_total", "coalmine_request_duration_seconds_bucket"
SCORES, LABELS, LOSS = "coalmine_score_bucket", "coalmine_loss_count", "coalmine_loss_sum"
BINNED = "coalmine_binned_total"
_STARTED = "coalmine_started_seconds"
_ASKED, _ANSWERED = (_STARTED, REQUESTS, DURATIONS), (SCORES, LABELS, LOSS)
# What sets the series of one name apart within a pod.
_APART = {
    REQUESTS: ("audience", "code"),
    DURATIONS: ("audience", "le"),
    SCORES: ("le",),
    BINNED: ("of", "name", "bin"),
}

_MARK = "coalmine"  # a label of what the query adds
_SCRAPED, _NOW = "scraped", "now"

Series = tuple[str, ...]  # the name, then the values of its labels in `_APART`


@dataclass(frozen=True)
class Life:
    """One start of one pod's server: its counters begin at zero with it."""

    slot: Slot
    pod: str
    started_s: float


@dataclass(frozen=True)
class Scrape:
    """counts: what a life had counted at `at_s`, by the clock of Prometheus."""

    at_s: float
    counts: Mapping[Series, float]


@dataclass(frozen=True)
class Seen:
    """lives: those that Prometheus knows at `now_s`, its own clock. others: the series of other queries."""

    now_s: float
    lives: Mapping[Life, Scrape]
    others: Sequence[Instant] = ()


def query(model: str, namespace: str, *others: str, answered: bool, binned: bool = False) -> str:
    """All of `Seen` in one; others: selectors of what else is to be seen at the same moment."""
    names = (*_ASKED, *(_ANSWERED if answered else ()), *((BINNED,) if binned else ()))
    of_model = f'model_name="{model}",namespace="{namespace}"'
    return " or ".join(
        (
            f'{{__name__=~"{"|".join(names)}",{of_model},audience!="testers"}}',
            _marked(f"timestamp({_STARTED}{{{of_model}}})", _SCRAPED),
            _marked("vector(time())", _NOW),
            *others,
        )
    )


def seen(found: Sequence[Instant]) -> Seen:
    """What the query found.

    Raises:
        TelemetryUnavailable: something cannot be trusted.
    """
    pods: defaultdict[str, list[Instant]] = defaultdict(list)
    scraped: defaultdict[str, list[float]] = defaultdict(list)
    others: list[Instant] = []
    now_s = math.nan
    for each in found:
        if each.labels.get(_MARK) == _NOW:
            now_s = each.value
        elif each.labels.get(_MARK) == _SCRAPED:
            scraped[_pod_of(each.labels)].append(each.value)
        elif each.labels.get("__name__") in (*_ASKED, *_ANSWERED, BINNED):
            pods[_pod_of(each.labels)].append(each)
        else:
            others.append(each)
    if not math.isfinite(now_s):
        raise TelemetryUnavailable("Prometheus does not say what time it is: is that Prometheus?")
    return Seen(now_s, dict(_scrape(pod, series, scraped[pod]) for pod, series in pods.items()), others)


def _marked(expression: str, mark: str) -> str:
    """Without a label of its own `or` would take it for the same as another series of the pod."""
    return f'label_replace({expression}, "{_MARK}", "{mark}", "", "")'


def _scrape(pod: str, found: Sequence[Instant], scraped: Sequence[float]) -> tuple[Life, Scrape]:
    counts: dict[Series, float] = {}
    for each in found:
        series = _series_of(each.labels)
        if series in counts:
            raise TelemetryUnavailable(
                f"Prometheus has several series of {series[0]} for the one pod {pod}: it is scraped twice "
                f"(jobs {_values(found, 'job')}), or two servers answer as one. Let one of them drop it"
            )
        counts[series] = _finite(each.value, series[0])
    started_s = counts.pop((_STARTED,), None)
    if started_s is None or len(scraped) != 1:
        raise TelemetryUnavailable(
            f"Prometheus does not have all series of pod {pod}: {_STARTED} is not there once. Is it dropped "
            "by a relabelling rule?"
        )
    _require_whole(pod, counts)
    return Life(_slot_of(pod, found), pod, started_s), Scrape(_finite(scraped[0], _STARTED), counts)


def _require_whole(pod: str, counts: Mapping[Series, float]) -> None:
    """A server counts a request by code and by duration in one step: a scrape in which the two differ was
    not written whole, or lost a series on its way."""
    for audience in (USERS, COPIES):
        by_code = sum(n for series, n in counts.items() if series[:2] == (REQUESTS, audience))
        by_duration = counts.get((DURATIONS, audience, "+Inf"))
        if by_duration != by_code:
            raise TelemetryUnavailable(
                f"Prometheus does not have all series of pod {pod}: by code it counts {by_code:g} requests "
                f"of {audience}, by duration {'none' if by_duration is None else f'{by_duration:g}'}"
            )


def _series_of(labels: Mapping[str, str]) -> Series:
    name = labels["__name__"]
    try:
        return (name, *(labels[each] for each in _APART.get(name, ())))
    except KeyError as error:
        raise TelemetryUnavailable(
            f"{name} in Prometheus has no label {error}: its pods run a server of another version"
        ) from error


def _slot_of(pod: str, found: Sequence[Instant]) -> Slot:
    named = _values(found, "slot")
    if named not in set(Slot):
        raise TelemetryUnavailable(f"The series of pod {pod} in Prometheus name no slot: `slot` is {named}")
    return Slot(named)


def _pod_of(labels: Mapping[str, str]) -> str:
    pod = labels.get("pod")
    if not pod:
        raise TelemetryUnavailable(
            "Prometheus has the model servers' series without the label `pod`, so that nobody knows which "
            "pod counted: scrape them by a PodMonitor (k8s/components/monitoring), or add the label where "
            "they are scraped"
        )
    return pod


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value) or value < 0:
        raise TelemetryUnavailable(f"{name} is {value:g} in Prometheus: that is no count")
    return value


def _values(found: Sequence[Instant], label: str) -> str:
    return ", ".join(sorted({each.labels.get(label, "?") for each in found}))
