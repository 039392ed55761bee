"""Pods that count as model servers do, and serve nobody: what they have counted is told to them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import DEPLOYMENT, POD
from coalmine.slots import Slot
from tests.cluster.image import REFERENCE

Json = dict[str, Any]

MODEL = "m"
READY_WITHIN_S = 60.0

# `/set?<JSON>` changes what it is; `/die` ends it, and it comes again as another life.
_SERVER = r"""
import json, os, time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote
SLOT = os.environ["SLOT"]
STARTED, ASKED, SERVED, LINES = [time.time()], Counter(), [], [""]
def metrics():
    of = f'model_name="m",model_version="1.0.0",slot="{SLOT}"'
    yield f"coalmine_started_seconds{{{of}}} {STARTED[0]!r}"
    for who in ("users", "copies", "testers"):
        codes = {code: n for (audience, code), n in ASKED.items() if audience == who}
        for code, n in {"200": 0, **codes}.items():
            yield f'coalmine_requests_total{{{of},audience="{who}",code="{code}"}} {n}'
        for bound in ("0.005", "1.0", "+Inf"):
            name = "coalmine_request_duration_seconds_bucket"
            yield f'{name}{{{of},audience="{who}",le="{bound}"}} {sum(codes.values())}'
    for bound in ("0.5", "+Inf"):
        yield f'coalmine_score_bucket{{{of},le="{bound}"}} {sum(ASKED.values())}'
    yield f"coalmine_loss_count{{{of}}} 0"
    yield f"coalmine_loss_sum{{{of}}} 0"
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/metrics":
            body = "\n".join([*(metrics() if SLOT else ()), LINES[0], ""])
        elif path == "/served":
            after = int(query.removeprefix("after="))
            body = json.dumps({"epoch": str(STARTED[0]), "next": len(SERVED), "served": SERVED[after:]})
        elif path == "/die":
            os._exit(1)
        else:
            told = json.loads(unquote(query) or "{}")
            if told.get("begin"):
                STARTED[0] = time.time(); ASKED.clear(); SERVED.clear(); LINES[0] = ""
            for who, code, n in told.get("asked", ()):
                ASKED[who, code] += n
            SERVED.extend({"id": i, "scores": s} for i, s in told.get("served", ()))
            LINES[0] = told.get("lines", LINES[0])
            body = "{}"
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def start(cluster: Cluster, name: str, labels: Mapping[str, str], slot: str = "") -> None:
    """A Deployment of one pod. slot: whose servers it has; without one it is a gateway."""
    server = {
        "name": "server",
        "image": REFERENCE,
        "command": ["python3", "-uc", _SERVER],
        "env": [{"name": "SLOT", "value": slot}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "securityContext": _RESTRICTED,
    }
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"}
    pod = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": [server]}
    cluster.create(
        DEPLOYMENT,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": dict(labels)},
                "template": {"metadata": {"labels": dict(labels), "annotations": scraped}, "spec": pod},
            },
        },
    )


def slot_labels(slot: Slot) -> dict[str, str]:
    return {"app.kubernetes.io/name": MODEL, "coalmine.dev/slot": slot.value}


def ready_pods(cluster: Cluster, labels: Mapping[str, str], count: int = 1) -> list[str]:
    """Their names, once there are so many of them and no other."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        found = cluster.list(POD, labels)
        ready = [pod["metadata"]["name"] for pod in found if _is_ready(pod)]
        if len(ready) == len(found) == count:
            return sorted(ready)
        assert time.monotonic() < deadline, [pod["status"] for pod in found]
        time.sleep(0.2)


def tell(cluster: Cluster, pod: str, **told: Any) -> None:
    """asked: (audience, code, how many) more; served: (request id, scores) more; lines: an exposition
    besides. begin: as if it had just been started."""
    cluster.from_pod(pod, 8080, f"/set?{quote(json.dumps(told))}")


def _is_ready(pod: Json) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
