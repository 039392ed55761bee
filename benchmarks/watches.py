"""What it saves to watch: the looks of many rollouts in one process, with watches and without, in turn.

python -m benchmarks.watches [--quick]

A look is what a rollout asks at each tick: its route, both Deployments, its pods, what people asked; and its
save. The API server is the tests' one, in a process of its own, so what is counted and timed is the runner's
side. `--quick` takes fewer rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kubernetes import client

from benchmarks.table import Figure, report
from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE
from coalmine.cluster.pace import Pace
from coalmine.cluster.watched import WatchedCluster
from coalmine.journals.shared_lines import SharedLines
from coalmine.reconcilers.deployed import Deployed
from coalmine.routers.cluster_route import ClusterRouter
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.slots import Slot
from coalmine.telemetry.pods import ModelPods
from tests.reconcilers.test_pods import deployment
from tests.routers.test_cluster_route import accept, http_route
from tests.simulators.http_api import NAMESPACE, http_api

Json = dict[str, Any]

OUT = Path(__file__).parent / "results" / "watches.json"
ROLLOUTS = 20
UNLIMITED = 1e9
WITHIN_S, POLL_S = 20.0, 0.001


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 45 s")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    rounds = 10 if arguments.quick else 60
    with _api_server() as address:
        plain, watched = _cluster(address), WatchedCluster(_cluster(address))
        try:
            ways = [_Way(plain), _Way(watched)]
            _await("everything is mirrored", lambda: ways[1].requests_of_a_round() == ROLLOUTS)
            for way in (*ways, *ways) * rounds:
                way.measure()
            late_ms = [_seen_after_ms(watched, plain, number) for number in range(rounds)]
        finally:
            watched.stop()
    return report(_figures(ways[0], ways[1], late_ms), arguments.out)


def _figures(plain: _Way, watched: _Way, late_ms: list[float]) -> list[Figure]:
    asked = [way.requests / way.looks for way in (plain, watched)]
    took_ms = [1000 * statistics.median(way.cpu_s) / ROLLOUTS for way in (plain, watched)]
    return [
        Figure("requests a look, without watches", asked[0], ""),
        Figure("requests a look, with", asked[1], "", at_most=1.1, note="the save"),
        Figure("processor a look, without watches", took_ms[0], "ms"),
        Figure("processor a look, with", took_ms[1], "ms", note="and the watches' own"),
        Figure("processor, without to with", took_ms[0] / took_ms[1], "times", at_least=1.5),
        Figure("another one's write is seen after, median", statistics.median(late_ms), "ms"),
        Figure("another one's write is seen after, at most", max(late_ms), "ms", at_most=1000),
    ]


@dataclass
class _Way:
    """One way to read, and what it has taken: requests, and seconds of processor of each round of looks."""

    cluster: Cluster

    def __post_init__(self) -> None:
        self.requests, self.looks = 0, 0
        self.cpu_s: list[float] = []
        self._looks = [_look(self.cluster, f"m-{number:02}") for number in range(ROLLOUTS)]

    def requests_of_a_round(self) -> int:
        before = self.cluster.pace.asked
        for look in self._looks:
            look()
        return self.cluster.pace.asked - before

    def measure(self) -> None:
        began_s = time.process_time()
        self.requests += self.requests_of_a_round()
        self.cpu_s.append(time.process_time() - began_s)
        self.looks += ROLLOUTS


def _look(cluster: Cluster, model: str) -> Callable[[], None]:
    router, deployed = ClusterRouter(cluster, model, GATEWAY_API), Deployed(cluster, model)
    asks, pods = SharedLines(cluster, f"{model}-asks", model, "r"), ModelPods(cluster, model)

    def look() -> None:
        router.observed_split()
        for slot in Slot:
            deployed.status(slot)
        asks.read()
        pods.ready()
        cluster.merge(CONFIG_MAP, f"{model}-rollout", {"data": {"state": str(time.monotonic())}})

    return look


def _seen_after_ms(watched: WatchedCluster, elsewhere: Cluster, number: int) -> float:
    name, words = "m-00-asks", f"words {number}"

    def is_seen() -> bool:
        seen = watched.get(CONFIG_MAP, name)
        return seen is not None and seen["data"].get("said") == words

    elsewhere.merge(CONFIG_MAP, name, {"data": {"said": words}})
    began_s = time.monotonic()
    _await("another one's write is seen", is_seen)
    return 1000 * (time.monotonic() - began_s)


def _await(what: str, is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WITHIN_S
    while not is_so():
        if time.monotonic() > until_s:
            raise SystemExit(f"not within {WITHIN_S:g} s: {what}")
        time.sleep(POLL_S)


# --- the API server ---------------------------------------------------------------------


@contextmanager
def _api_server() -> Iterator[str]:
    """Its address, while the block runs."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()
        process.join()


def _serve(asked: Connection) -> None:
    with http_api() as api:
        writer = api.elsewhere()
        for number in range(ROLLOUTS):
            model = f"m-{number:02}"
            writer.create(HTTP_ROUTE, _numbered(http_route(model, 100, 0), f"{model}-route"))
            accept(api.state.objects["HTTPRoute", f"{model}-route"])
            for slot in Slot:
                body = {**deployment(available=1), "kind": "Deployment"}
                writer.create(DEPLOYMENT, _numbered(body, f"{model}-{slot}"))
            for of in ("asks", "rollout"):
                body = {"kind": "ConfigMap", "metadata": {}, "data": {}}
                writer.create(CONFIG_MAP, _numbered(body, f"{model}-{of}"))
        asked.send(api.port)
        asked.poll(None)  # until the other end is closed


def _numbered(body: Json, name: str) -> Json:
    return {**body, "metadata": {"generation": 1, **body["metadata"], "name": name}}


def _cluster(address: str) -> Cluster:
    configuration = client.Configuration(host=address)
    configuration.retries = False
    return Cluster(client.ApiClient(configuration), NAMESPACE, Pace(UNLIMITED, int(UNLIMITED)))


if __name__ == "__main__":
    sys.exit(main())
