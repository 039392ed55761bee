"""Counts of one model's users, read from the Envoy that served them.

Envoy notes every inference request once, when it ends, in one histogram of its own
(`ACCESS_LOG` below makes it do so): how long it took, which slot had it, the status that the
user saw, and what went wrong on the way. Requests, failures and durations all come from that
histogram, so they agree with each other to the request. Envoy's ready-made cluster counters do
not: they count an answer that breaks off in the middle as a success, one that the user gave up
waiting for not at all, and their histogram lags behind. Label feedback and metadata are no
inference, and are not counted.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Arm, Counters, Reading
from coalmine.slots import Slot

BOUNDS_MS = (
    *(1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750),
    *(1000, 1500, 2000, 3000, 5000, 10000),
)
HISTOGRAM = "coalmine.requests_ms"
ADMIN_TIMEOUT_S = 2.0
GATHERED_WITHIN_S = 2.0  # it takes some 2 ms

ACCESS_LOG: dict[str, Any] = {
    "name": "envoy.access_loggers.stats",
    "filter": {
        "header_filter": {
            "header": {"name": ":path", "string_match": {"safe_regex": {"regex": r"[^?]*/infer([?].*)?"}}}
        }
    },
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config",
        "stats_scope": {"prefix": HISTOGRAM.split(".")[0]},
        "histograms": [
            {
                "stat": {
                    "name": HISTOGRAM.split(".")[1],
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
# An admin request makes Envoy gather what its worker counted; a later one sees it (`_gathered`).
STATS: dict[str, Any] = {
    "stats_flush_on_admin": True,
    "stats_config": {
        "histogram_bucket_settings": [{"match": {"prefix": HISTOGRAM}, "buckets": list(BOUNDS_MS)}]
    },
}

_HISTOGRAM_SERIES = "envoy_" + HISTOGRAM.replace(".", "_")
_ADMIN_BEGUN_SERIES = "envoy_http_downstream_rq_total"
_ADMIN_ENDED_SERIES = "envoy_http_downstream_rq_time_count"
_CLUSTER_SERIES = "envoy_cluster_membership_total"
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: int


class ScrapeTelemetry:
    """The telemetry of `model`, from the Envoy whose admin interface is at `admin_address`."""

    def __init__(self, model: str, admin_address: str) -> None:
        self._admin = admin_address
        self._clusters = {slot: f"{model}-{slot}" for slot in Slot}

    def read(self, candidate: Slot) -> Reading:
        epoch, samples = self._scrape()
        arms = {
            Arm.CANDIDATE: counters(samples, self._clusters[candidate]),
            Arm.STABLE: counters(samples, self._clusters[candidate.other]),
        }
        return Reading(time.time(), epoch, arms)

    def _scrape(self) -> tuple[str, list[Sample]]:
        """When Envoy started, and its statistics now: over one connection, so by one and the same Envoy."""
        connection = http.client.HTTPConnection(self._admin, timeout=ADMIN_TIMEOUT_S)
        try:
            connection.connect()
            connection.auto_open = 0
            started = self._get(connection, "/config_dump?mask=bootstrap.node.id,last_updated")
            return str(json.loads(started)["configs"][0]["last_updated"]), self._gathered(connection)
        except (OSError, http.client.HTTPException) as error:
            raise TelemetryUnavailable(
                f"Envoy does not answer on {self._admin} ({error}). Start the local stack: coalmine up"
            ) from error
        except (ValueError, KeyError, IndexError) as error:
            raise TelemetryUnavailable(f"Envoy on {self._admin} does not say since when it runs") from error
        finally:
            connection.close()

    def _gathered(self, connection: http.client.HTTPConnection) -> list[Sample]:
        """The statistics with everything that had ended when this was called.

        Envoy counts admin requests when they begin, and, among what it gathers, when they end. So
        once it has gathered the end of the first one here, it has gathered all that came before.
        """
        names = "|".join(re.escape(cluster) for cluster in self._clusters.values())
        wanted = (
            rf"^(cluster\.({names})\.membership_total|{re.escape(HISTOGRAM)}\..*"
            r"|http\.admin\.downstream_rq_(total|time))$"
        )
        path = f"/stats/prometheus?filter={quote(wanted)}"
        begun = _admin_requests(list(parse(self._get(connection, path))), _ADMIN_BEGUN_SERIES)
        deadline = time.monotonic() + GATHERED_WITHIN_S
        while True:
            samples = list(parse(self._get(connection, path)))
            if _admin_requests(samples, _ADMIN_ENDED_SERIES) >= begun:
                return samples
            if time.monotonic() > deadline:
                raise TelemetryUnavailable(
                    f"Envoy on {self._admin} did not gather its counts within {GATHERED_WITHIN_S:g} s: "
                    "the machine may be overloaded. Run again."
                )
            time.sleep(0.002)

    def _get(self, connection: http.client.HTTPConnection, path: str) -> str:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        if response.status != 200:
            raise TelemetryUnavailable(
                f"Envoy on {self._admin} answers {response.status} to {path}: {body[:200]}"
            )
        return body


def parse(exposition: str) -> Iterator[Sample]:
    """The counts in a Prometheus exposition.

    Raises:
        TelemetryUnavailable: NaN, what is no count, or one series twice.
    """
    seen: set[tuple[str, Labels]] = set()
    for line in exposition.splitlines():
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.match(line)
        if match is None:
            raise TelemetryUnavailable(f"Envoy's statistics hold a line that is none: `{line[:120]}`")
        if match["name"].endswith("_sum"):
            continue  # not a count, and not needed
        labels = dict(_LABEL.findall(match["labels"] or ""))
        key = (match["name"], tuple(sorted(labels.items())))
        if key in seen:
            raise TelemetryUnavailable(f"Envoy's statistics hold one series twice: `{line[:120]}`")
        seen.add(key)
        yield Sample(match["name"], labels, _count(match["value"], line))


def counters(samples: list[Sample], cluster: str) -> Counters:
    """What ended in `cluster`. No request yet is zero only where Envoy knows the cluster.

    Raises:
        TelemetryUnavailable: Envoy does not know the cluster, or counts by other bounds.
    """
    if not any(s.name == _CLUSTER_SERIES and s.labels.get("envoy_cluster_name") == cluster for s in samples):
        raise TelemetryUnavailable(
            f"Envoy has no cluster {cluster}: nothing was declared for it, or this is another environment's "
            "Envoy. Run the delivery again: it declares both slots first."
        )
    ours = [sample for sample in samples if sample.labels.get("cluster") == cluster]
    ended = [sample for sample in ours if sample.name == f"{_HISTOGRAM_SERIES}_count"]
    within: defaultdict[float, int] = defaultdict(int, {float(bound): 0 for bound in BOUNDS_MS})
    for sample in ours:
        if sample.name == f"{_HISTOGRAM_SERIES}_bucket" and sample.labels["le"] != "+Inf":
            within[float(sample.labels["le"])] += sample.value
    if len(within) != len(BOUNDS_MS):
        raise TelemetryUnavailable(
            f"Envoy counts durations by other bounds than expected ({sorted(within)} ms): it was started by "
            "another version of coalmine. Restart it: coalmine down, then coalmine up."
        )
    return Counters(
        requests=sum(sample.value for sample in ended),
        failures=sum(sample.value for sample in ended if not is_answer(sample.labels)),
        durations=tuple((bound / 1000, within[bound]) for bound in sorted(within)),
    )


def _admin_requests(samples: list[Sample], series: str) -> int:
    """How many requests to Envoy's own interface `series` has counted; none before the first."""
    return sum(
        sample.value
        for sample in samples
        if sample.name == series and sample.labels.get("envoy_http_conn_manager_prefix") == "admin"
    )


def is_answer(labels: Mapping[str, str]) -> bool:
    """A whole answer that is no error. A flag is Envoy's word for a timeout, a reset, a refused
    connection, an answer cut short, or a user who gave up waiting."""
    return labels["flags"] == "-" and labels["status"][0] in "23"


def _count(text: str, line: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value.is_integer() or value < 0:  # NaN and infinity are no integers
        raise TelemetryUnavailable(f"Envoy's statistics hold what is no count: `{line[:120]}`")
    return int(value)
