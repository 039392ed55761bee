"""The telemetry of a cluster with its Prometheus and its API server: the contract, and pods that come and go.

COALMINE_TEST_PROMETHEUS: where it is. It scrapes pods by the annotations `prometheus.io/*`, every few
seconds, with the labels `namespace` and `pod`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from kubernetes import client

from coalmine.cluster.client import Cluster, ClusterUnavailable
from coalmine.cluster.kinds import DEPLOYMENT, POD
from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Arm, Counted, Reading, between
from coalmine.settings import PrometheusSettings
from coalmine.slots import Slot
from coalmine.telemetry.pairs import ServedPairs
from coalmine.telemetry.pods import ModelPods
from coalmine.telemetry.prometheus import Prometheus, QueryFailed
from coalmine.telemetry.prometheus_counts import PrometheusTelemetry
from coalmine.telemetry.proxies import ISTIO
from tests.cluster import counting_pods as pods
from tests.cluster.shop import PROMETHEUS_URL
from tests.contracts.telemetry import EndRequest, Outcome, TelemetryContract
from tests.ports import reserved_port

GATEWAY = {"app": "gateway"}
CODES = {
    Outcome.ANSWERED: "200",
    Outcome.REFUSED_INPUT: "422",
    Outcome.SERVER_ERROR: "500",
    Outcome.TIMEOUT: "499",  # to the server, a client who left
}
FLAGS = {Outcome.TIMEOUT: "UT", Outcome.RESET: "UC", Outcome.REFUSED: "UF"}
SCRAPED_WITHIN_S = 30.0


class Place:
    """A model's pods and a gateway of Istio, all of which count what they are told."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.reach(PROMETHEUS_URL)
        for slot in Slot:
            pods.start(cluster, f"m-{slot}", pods.slot_labels(slot), slot.value)
        pods.start(cluster, "gateway", GATEWAY)
        (self._gateway,) = pods.ready_pods(cluster, GATEWAY)
        for slot in Slot:
            pods.ready_pods(cluster, pods.slot_labels(slot))

    def reach(self, prometheus_url: str) -> None:
        self.prometheus = Prometheus(PrometheusSettings(url=prometheus_url))

    def pods(self, slot: Slot, count: int = 1) -> list[str]:
        return pods.ready_pods(self.cluster, pods.slot_labels(slot), count)

    def begin(self) -> None:
        """As if all had just been started."""
        self.reach(PROMETHEUS_URL)
        self._sent = Counter({(slot, "-"): 0 for slot in Slot})
        for slot in Slot:
            for pod in self.pods(slot):
                pods.tell(self.cluster, pod, begin=True)
        pods.tell(self.cluster, self._gateway, lines=self._exposition())
        self.await_scrapes()

    def end_request(self, slot: Slot, outcome: Outcome) -> None:
        self._sent[slot, FLAGS.get(outcome, "-")] += 1
        pods.tell(self.cluster, self._gateway, lines=self._exposition())
        if outcome in CODES:
            pods.tell(self.cluster, self.pods(slot)[0], asked=[("users", CODES[outcome], 1)])
        self.await_scrapes()

    def await_scrapes(self) -> None:
        """Until every pod was scraped since now, and Prometheus has forgotten all others."""
        names = {each["metadata"]["name"] for each in self.cluster.list(POD)}
        query = f'timestamp(up{{namespace="{self.cluster.namespace}"}})'
        now_s = time.time()
        deadline = time.monotonic() + SCRAPED_WITHIN_S
        while True:
            scraped = {each.labels["pod"]: each.value > now_s for each in self.prometheus.find(query)}
            if scraped == dict.fromkeys(names, True):
                return
            assert time.monotonic() < deadline, f"{PROMETHEUS_URL} scrapes {scraped}, and there are {names}"
            time.sleep(0.1)

    def telemetry(self, tolerance: float | None = None) -> PrometheusTelemetry:
        of_model = ModelPods(self.cluster, pods.MODEL)
        return PrometheusTelemetry(
            pods.MODEL,
            self.cluster.namespace,
            lambda query: self.prometheus.find(query),
            of_model.ready,
            ISTIO,
            answered=True,
            pairs=None if tolerance is None else ServedPairs(of_model.servers, tolerance),
        )

    def _exposition(self) -> str:
        return "\n".join(
            f'istio_requests_total{{reporter="source",destination_service_name="m-{slot}",'
            f'destination_service_namespace="{self.cluster.namespace}",response_flags="{flags}"}} {count}'
            for (slot, flags), count in self._sent.items()
        )


@pytest.fixture(scope="module")
def one_place(any_cluster: Cluster) -> Iterator[Place]:
    try:
        Prometheus(PrometheusSettings(url=PROMETHEUS_URL)).ask("vector(1)")
    except QueryFailed as error:
        pytest.skip(f"no Prometheus: {error}. Name it by COALMINE_TEST_PROMETHEUS")
    name = f"coalmine-test-{secrets.token_hex(4)}"
    core = client.CoreV1Api(any_cluster.api)
    core.create_namespace({"metadata": {"name": name}})
    try:
        yield Place(any_cluster.in_namespace(name))
    finally:
        core.delete_namespace(name)


@pytest.fixture
def place(one_place: Place) -> Place:
    one_place.begin()
    return one_place


class RunnersTelemetry:
    """That of whichever runner drives now: what it adds up goes with it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.start_again()

    def start_again(self) -> None:
        self._telemetry = self._place.telemetry()

    def read(self, candidate: Slot) -> Reading:
        return self._telemetry.read(candidate)


class TestPrometheusKeepsTheContract(TelemetryContract):
    @pytest.fixture
    def telemetry(self, place: Place) -> RunnersTelemetry:
        return RunnersTelemetry(place)

    @pytest.fixture
    def end_request(self, place: Place) -> EndRequest:
        return place.end_request

    @pytest.fixture
    def restart(self, telemetry: RunnersTelemetry) -> Callable[[], None]:
        return telemetry.start_again

    @pytest.fixture
    def cut(self, place: Place) -> Callable[[], None]:
        return lambda: place.reach(f"http://127.0.0.1:{reserved_port()}")


def candidates(before: Reading, after: Reading) -> tuple[int, int]:
    poll = between(before, after, 0.5, Counted.AS_CAME)
    return poll.candidate.requests, poll.stable.requests


def told(telemetry: PrometheusTelemetry, than: Reading) -> Reading:
    """The next reading that tells more."""
    deadline = time.monotonic() + SCRAPED_WITHIN_S
    while True:
        try:
            reading = telemetry.read(Slot.GREEN)
            if reading.at_s > than.at_s:
                return reading
        except TelemetryUnavailable:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_pods_are_added_replaced_and_started_again_and_no_request_is_lost_or_counted_twice(
    place: Place,
) -> None:
    cluster, telemetry = place.cluster, place.telemetry()
    first = telemetry.read(Slot.GREEN)
    (old,) = place.pods(Slot.GREEN)
    pods.tell(cluster, old, asked=[("users", "200", 5)])
    cluster.merge(DEPLOYMENT, "m-green", {"spec": {"replicas": 2}})
    (new,) = set(place.pods(Slot.GREEN, count=2)) - {old}
    pods.tell(cluster, new, asked=[("users", "200", 7), ("testers", "200", 100), ("copies", "200", 3)])
    place.await_scrapes()
    second = told(telemetry, first)
    assert candidates(first, second) == (12, 0)
    assert second.mirrored is not None
    assert second.mirrored[Arm.CANDIDATE].requests - second.arms[Arm.CANDIDATE].requests == 3

    with pytest.raises(ClusterUnavailable):
        cluster.from_pod(old, 8080, "/die")
    time.sleep(2)
    assert old in place.pods(Slot.GREEN, count=2)
    pods.tell(cluster, old, asked=[("users", "200", 2)])
    place.await_scrapes()
    third = told(telemetry, second)
    assert candidates(second, third) == (2, 0)

    cluster.delete(POD, old)
    time.sleep(2)
    assert old not in place.pods(Slot.GREEN, count=2)
    place.await_scrapes()
    assert candidates(first, told(telemetry, third)) == (14, 0)
    cluster.merge(DEPLOYMENT, "m-green", {"spec": {"replicas": 1}})
    place.pods(Slot.GREEN)


def test_a_slot_without_pods_has_counted_nothing_and_pods_that_are_not_scraped_are_said(place: Place) -> None:
    cluster = place.cluster
    cluster.merge(DEPLOYMENT, "m-green", {"spec": {"replicas": 0}})
    place.pods(Slot.GREEN, count=0)
    place.await_scrapes()
    reading = place.telemetry().read(Slot.GREEN)
    assert reading.arms[Arm.CANDIDATE].requests == 0
    assert set(reading.answers) == {Arm.STABLE}
    template = {"metadata": {"annotations": {"prometheus.io/scrape": "false"}}}
    cluster.merge(DEPLOYMENT, "m-green", {"spec": {"replicas": 1, "template": template}})
    (pod,) = place.pods(Slot.GREEN)
    with pytest.raises(TelemetryUnavailable, match=f"no counts of pod {pod}"):
        place.telemetry().read(Slot.GREEN)
    template = {"metadata": {"annotations": {"prometheus.io/scrape": "true"}}}
    cluster.merge(DEPLOYMENT, "m-green", {"spec": {"template": template}})
    time.sleep(2)
    place.pods(Slot.GREEN)


def test_answers_to_a_request_and_its_copy_are_joined_over_all_pods(place: Place) -> None:
    cluster, telemetry = place.cluster, place.telemetry(tolerance=0.1)
    first = telemetry.read(Slot.GREEN)
    (blue,), (green,) = place.pods(Slot.BLUE), place.pods(Slot.GREEN)
    pods.tell(cluster, blue, served=[("a", [0.1]), ("b", [0.5]), ("c", [0.9])], asked=[("users", "200", 3)])
    pods.tell(cluster, green, served=[("b", [0.55]), ("a", [0.3])], asked=[("copies", "200", 2)])
    place.await_scrapes()
    second = told(telemetry, first)
    assert second.pairs is not None
    assert (second.pairs.compared, second.pairs.different) == (2, 1)
    assert json.dumps(second.missing) == "[]"
