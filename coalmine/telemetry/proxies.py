"""What never reached a pod, or whose pod died over it: from the proxies that sent it, by technology.

A model server counts best what came to it: by who asked, inference alone, to the request. It cannot count a
connection that was refused, a slot without pods, or what it had begun when it was killed. The proxies can,
but count testers, late labels and metadata as they count users. So only these failures are theirs, and are
added to the servers' counts. A timeout is not among them: to the server that is a client who left, and it
counts the failure itself.

Proxies are other people's, and say neither since when they count nor that they count nothing: a proxy that is
found later than at the first look counts from what it shows then.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coalmine.errors import TelemetryUnavailable
from coalmine.slots import Slot
from coalmine.telemetry.prometheus import Instant


@dataclass(frozen=True)
class Proxies:
    """How one technology's proxies count.

    selector: PromQL for all they count of one model, both slots; `$model` and `$namespace` are filled in.
    slot_in: the label that names the slot, and where in it: a regular expression with the group `slot`.
    unreached: which of the series are failures that no server counts; each label matches one of its
        alternatives whole.
    """

    technology: str
    selector: str
    slot_in: tuple[str, str]
    unreached: Sequence[Mapping[str, str]]

    def select(self, model: str, namespace: str) -> str:
        return self.selector.replace("$model", model).replace("$namespace", namespace)

    def slot(self, labels: Mapping[str, str], model: str) -> Slot | None:
        label, pattern = self.slot_in
        found = re.fullmatch(pattern.replace("$model", re.escape(model)), labels.get(label, ""))
        return None if found is None else Slot(found["slot"])

    def is_unreached(self, labels: Mapping[str, str]) -> bool:
        return any(
            all(re.fullmatch(pattern, labels.get(label, "")) for label, pattern in alternative.items())
            for alternative in self.unreached
        )


_SERVICE = "$model-(?P<slot>blue|green)"

# Labels as in istio.io/latest/docs/reference/config/metrics; flags as in Envoy's access log. A failure is
# flagged by the one proxy that met it: the client's or the gateway's on the way to the pod, the server's
# sidecar or a waypoint on the last step. Not: UT (timeout) and DC (the user left), which servers count.
ISTIO = Proxies(
    "Istio",
    'istio_requests_total{destination_service_namespace="$namespace",'
    'destination_service_name=~"$model-(blue|green)"}',
    ("destination_service_name", _SERVICE),
    [{"response_flags": "(?:.*,)?(?:UF|UH|UO|UC|UR|LR|LH)(?:,.*)?"}],
)

# Labels as in linkerd2-proxy, app/outbound/src/http/logical/policy/route/metrics/labels.rs. Not: the timeouts
# and CANCEL, which servers count. A server's own proxy that cannot reach it answers 502, or 504 when it gives
# up at once (linkerd.io/2/common-errors); a model server never answers either.
LINKERD = Proxies(
    "Linkerd",
    'outbound_http_route_backend_response_statuses_total{backend_namespace="$namespace",'
    'backend_name=~"$model-(blue|green)"}',
    ("backend_name", _SERVICE),
    [
        {"error": "FAIL_FAST|LOAD_SHED|REFUSED|ENHANCE_YOUR_CALM|RESET|GO_AWAY|IO|UNKNOWN"},
        {"error": "", "http_status": "502|504"},
    ],
)

# Names as in Envoy's "Cluster manager statistics": no host, a connection that failed, a queue that is full, a
# connection that the server broke with a request on it. App Mesh names a cluster by mesh, node and namespace.
APP_MESH = Proxies(
    "App Mesh",
    '{__name__=~"envoy_cluster_upstream_(cx_none_healthy|rq_pending_failure_eject|rq_pending_overflow'
    '|cx_destroy_remote_with_active_rq|rq_completed)",'
    'envoy_cluster_name=~"cds_(egress|ingress)_.+_$model-(blue|green)_$namespace_http_[0-9]+"}',
    ("envoy_cluster_name", f"cds_(?:egress|ingress)_.+_{_SERVICE}_.+"),
    [{"__name__": "(?!.*rq_completed).*"}],
)

BY_ROUTER: Mapping[str, Proxies] = {"istio": ISTIO, "linkerd": LINKERD, "appmesh": APP_MESH}
"""Those of a router in coalmine.yaml. Gateway API has no numbers of its own, and the gateway that was tried,
Envoy Gateway, counts both slots as one."""


class Unreached:
    """What never reached a pod of `model`, by slot, since the first look and before it."""

    def __init__(self, proxies: Proxies, model: str) -> None:
        self._proxies = proxies
        self._model = model
        self._last: dict[frozenset[tuple[str, str]], float] = {}
        self._known: set[str] = set()
        self._is_first = True
        self._counts: Counter[Slot] = Counter()

    @property
    def has_spoken(self) -> bool:
        """Whether any proxy has counted a request of the model."""
        return bool(self._known)

    def take(self, found: Sequence[Instant]) -> None:
        """
        Raises:
            TelemetryUnavailable: what they say is no count.
        """
        known = set(self._known)
        for each in found:
            slot = self._proxies.slot(each.labels, self._model)
            if slot is None:
                continue
            proxy = each.labels.get("pod") or each.labels.get("instance", "")
            self._known.add(proxy)
            if not self._proxies.is_unreached(each.labels):
                continue
            self._counts[slot] += self._grown(each, is_known=self._is_first or proxy in known)
        self._is_first = False

    def of(self, slot: Slot) -> int:
        return self._counts[slot]

    def _grown(self, each: Instant, *, is_known: bool) -> int:
        if not math.isfinite(each.value) or each.value < 0:
            raise TelemetryUnavailable(f"{self._proxies.technology} counts {each.value:g}: that is no count")
        series = frozenset(each.labels.items())
        before = self._last.get(series, 0.0 if is_known else each.value)
        self._last[series] = each.value
        # Less than before: the proxy was started anew.
        return round(each.value - before if each.value >= before else each.value)
