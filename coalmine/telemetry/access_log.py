"""How Envoy is told to count, and what one model's counts are.

Envoy notes every inference request once, when it ends, in a histogram of its own: how long it took,
which slot had it, the status of the answer, and what went wrong on the way. Requests, failures and
durations all come from that histogram, so they agree with each other to the request. Envoy's
ready-made cluster counters do not: they count an answer that breaks off in the middle as a success,
one that the user gave up waiting for not at all, and their histogram lags behind.

There are two such histograms, of users' requests and of copies: a copy passes a listener of its own
(`coalmine.routers.routes`), with the same log. Label feedback, metadata and the requests of testers
are noted in neither.

A request that is never answered is noted when the model's timeout ends it, so what was sent and not yet
counted is at most that old. What was under way when Envoy itself died is not known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Counters
from coalmine.rollout_spec import SLOT_HEADER
from coalmine.slots import Slot
from coalmine.telemetry.exposition import Sample

BOUNDS_MS = (
    *(1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750),
    *(1000, 1500, 2000, 3000, 5000, 10000),
)
REQUESTS, COPIES = "requests_ms", "copies_ms"
_SCOPE = "coalmine"
_CLUSTER_SERIES = "envoy_cluster_membership_total"
_BUCKETS = {f"envoy_{_SCOPE}_{histogram}_bucket": histogram for histogram in (REQUESTS, COPIES)}
_COUNTS = {f"envoy_{_SCOPE}_{histogram}_count": histogram for histogram in (REQUESTS, COPIES)}
SERIES = (_CLUSTER_SERIES, *_BUCKETS, *_COUNTS)


def access_log(histogram: str) -> dict[str, Any]:
    """The access log of a listener, into `histogram`: `REQUESTS` or `COPIES`."""
    inference = {"name": ":path", "string_match": {"safe_regex": {"regex": r"[^?]*/infer([?].*)?"}}}
    no_tester = {
        "name": SLOT_HEADER,
        "string_match": {"safe_regex": {"regex": "|".join(Slot)}},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    return {
        "name": "envoy.access_loggers.stats",
        "filter": {
            "and_filter": {
                "filters": [{"header_filter": {"header": each}} for each in (inference, no_tester)]
            }
        },
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": _SCOPE},
            "histograms": [
                {
                    "stat": {
                        "name": histogram,
                        "tags": [
                            {"name": "cluster", "value_format": "%UPSTREAM_CLUSTER%"},
                            {"name": "status", "value_format": "%RESPONSE_CODE%"},
                            {"name": "flags", "value_format": "%RESPONSE_FLAGS%"},
                        ],
                    },
                    "unit": "Milliseconds",
                    "value_format": "%DURATION%",
                }
            ],
        },
    }


# Each admin request looks at every statistic there is. Of those that a cluster would have, most of them
# zero, these are kept: with all of them, reading one of a hundred models cost Envoy nine times the time.
_KEPT = (
    rf"({_SCOPE}|http|cluster_manager|listener|listener_manager|server)\..*"
    r"|cluster\.[^.]+\.(membership_(total|healthy)|upstream_rq_(total|completed|active|timeout|[245]xx)"
    r"|upstream_cx_(total|active|connect_fail))"
)
# An admin request makes Envoy gather what its worker counted; a later one sees it (`scrape`).
STATS: dict[str, Any] = {
    "stats_flush_on_admin": True,
    "stats_config": {
        "stats_matcher": {"inclusion_list": {"patterns": [{"safe_regex": {"regex": _KEPT}}]}},
        "histogram_bucket_settings": [{"match": {"prefix": f"{_SCOPE}."}, "buckets": list(BOUNDS_MS)}],
    },
}


def statistics_of(clusters: Iterable[str]) -> str:
    """A regular expression for the names of what `counters` needs of these clusters."""
    names = "|".join(re.escape(cluster) for cluster in clusters)
    return rf"cluster\.({names})\.membership_total|{_SCOPE}\.({REQUESTS}|{COPIES})\.cluster\.({names})\..*"


def counters(samples: Iterable[Sample], clusters: Iterable[str]) -> dict[str, dict[str, Counters]]:
    """What ended in each cluster, by histogram. No request yet is zero only where Envoy knows the cluster.

    Raises:
        TelemetryUnavailable: Envoy does not know a cluster, or counts by other bounds.
    """
    known = set()
    counted = {cluster: {histogram: _Count() for histogram in (REQUESTS, COPIES)} for cluster in clusters}
    for sample in samples:
        name, labels = sample.series.name, sample.series.labels
        if name == _CLUSTER_SERIES:
            known.add(labels.get("envoy_cluster_name"))
        elif name in _BUCKETS:
            counted[labels["cluster"]][_BUCKETS[name]].add_bucket(labels["le"], sample.count)
        elif name in _COUNTS:
            counted[labels["cluster"]][_COUNTS[name]].add(sample.count, is_answer(labels))
    for cluster in counted:
        if cluster not in known:
            raise TelemetryUnavailable(
                f"Envoy has no cluster {cluster}: nothing was declared for it, or this is another "
                "environment's Envoy. Run the delivery again: it declares both slots first."
            )
    return {
        cluster: {histogram: count.counters() for histogram, count in each.items()}
        for cluster, each in counted.items()
    }


class _Count:
    def __init__(self) -> None:
        self._requests = self._failures = 0
        self._within: defaultdict[float, int] = defaultdict(int, {float(bound): 0 for bound in BOUNDS_MS})

    def add(self, requests: int, are_answers: bool) -> None:
        self._requests += requests
        self._failures += 0 if are_answers else requests

    def add_bucket(self, bound_ms: str, requests: int) -> None:
        if bound_ms != "+Inf":
            self._within[float(bound_ms)] += requests

    def counters(self) -> Counters:
        if len(self._within) != len(BOUNDS_MS):
            raise TelemetryUnavailable(
                f"Envoy counts durations by other bounds than expected ({sorted(self._within)} ms): it was "
                "started by another version of coalmine. Restart it: coalmine down, then coalmine up."
            )
        durations = tuple((bound / 1000, self._within[bound]) for bound in sorted(self._within))
        return Counters(self._requests, self._failures, durations)


def is_answer(labels: Mapping[str, str]) -> bool:
    """A whole answer that is no error. A flag is Envoy's word for a timeout, a reset, a refused
    connection, an answer cut short, or a user who gave up waiting."""
    return labels["flags"] == "-" and labels["status"][0] in "23"


def together(one: Counters, other: Counters) -> Counters:
    durations = tuple(
        (bound, count + more)
        for (bound, count), (_, more) in zip(one.durations, other.durations, strict=True)
    )
    return Counters(one.requests + other.requests, one.failures + other.failures, durations)
