"""What live requests make of a split, by Envoy Gateway and by Istio's ingress gateway.

Figures are printed: pytest -rP.
"""

from __future__ import annotations

import http.client
import json
import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import POD
from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.routers.cluster_route import ClusterRouter
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.routers.istio import ISTIO
from coalmine.routers.technology import Technology
from coalmine.slots import Slot
from tests.cluster import routed
from tests.cluster.front_doors import front_door

USERS = 8  # connections at once
TAKES_EFFECT_WITHIN_S = 5.0


@dataclass(frozen=True)
class Served:
    """Model `m` with a pod in each slot. address: of the gateway. host: the name that users ask for."""

    cluster: Cluster
    technology: Technology
    address: str
    host: str

    @property
    def router(self) -> ClusterRouter:
        return ClusterRouter(self.cluster, "m", self.technology)

    def route(self, split: TrafficSplit) -> None:
        """`split`, and time for it to reach the proxy."""
        self.router.set_split(split)
        time.sleep(1.0)

    def ask(
        self, requests: int = 1, path: str = "/v2/models/m/infer", headers: Mapping[str, str] | None = None
    ) -> Counter[str]:
        """How often each slot answered; a status where it was not 200."""
        users = min(USERS, requests)
        shares = [requests // users + (user < requests % users) for user in range(users)]
        with ThreadPoolExecutor(users) as pool:
            answered = pool.map(lambda share: self._ask(share, path, headers or {}), shares)
        return sum(answered, Counter())

    def seen(self, slot: Slot, path: str) -> dict[str, int]:
        """How often the pod of `slot` saw `path`, by the request's Host."""
        labels = {"app.kubernetes.io/name": "m", "coalmine.dev/slot": slot.value}
        (pod,) = self.cluster.list(POD, labels)
        told = json.loads(self.cluster.from_pod(pod["metadata"]["name"], 8080, "/seen"))
        return {host: count for its_path, host, count in told if its_path == path}

    def _ask(self, requests: int, path: str, headers: Mapping[str, str]) -> Counter[str]:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        answered: Counter[str] = Counter()
        for _ in range(requests):
            connection.request("GET", path, headers={"Host": self.host, **headers})
            answer = connection.getresponse()
            body = answer.read().decode()
            answered[body if answer.status == 200 else str(answer.status)] += 1
        connection.close()
        return answered


def publish(served: Served, model: str, stable: Slot | None, folder: pytest.TempPathFactory) -> None:
    """The objects of `model`, on the test's gateway and host."""
    objects = routed.built(folder.mktemp("k8s"), served.technology, model, served.cluster.namespace, stable)
    spec = routed.route_in(objects, served.technology)["spec"]
    if served.technology is GATEWAY_API:
        spec |= {"parentRefs": [{"name": "users"}], "hostnames": [served.host]}
    else:
        spec |= {"gateways": ["users"], "hosts": [served.host]}
    routed.apply(objects)


@pytest.fixture(
    scope="module", params=[pytest.param(GATEWAY_API, id="gateway_api"), pytest.param(ISTIO, id="istio")]
)
def served(
    any_cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    technology: Technology = request.param
    routed.require(any_cluster, technology.kind)
    with routed.namespace(any_cluster) as cluster:
        host = f"{cluster.namespace}.example.com"
        served = Served(cluster, technology, front_door(cluster, technology.component, host), host)
        publish(served, "m", Slot.BLUE, tmp_path_factory)
        routed.echo_pods(cluster, "m")
        routed.eventually(lambda: served.ask()["blue"], "the gateway answers", 30)
        yield served


def beta(kind: str, name: str, value: str) -> TrafficSplit:
    assert kind in ("header", "cookie")
    key = UserKey("header" if kind == "header" else "cookie", name)
    return TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, match=Match(key, value), match_to=Slot.GREEN)


@pytest.mark.slow
@pytest.mark.parametrize("weight_percent", [1, 10, 50])
def test_users_are_shared_by_weight(served: Served, weight_percent: int) -> None:
    requests = 10_000
    served.route(TrafficSplit.canary(Slot.GREEN, weight_percent))
    answered = served.ask(requests)
    share = answered["green"] / requests
    print(f"{served.technology.name}: {weight_percent} % asked for, {share:.2%} of {requests} requests came")
    assert set(answered) == {"blue", "green"}
    weight = weight_percent / 100
    # Four standard deviations of a draw for each request: a fair proxy fails once in 16 000 runs.
    assert abs(share - weight) < 4 * math.sqrt(weight * (1 - weight) / requests)


def test_users_with_the_header_get_the_candidate_and_nobody_else_does(served: Served) -> None:
    served.route(beta("header", "X-Group", "beta"))
    assert served.ask(20, headers={"x-group": "beta"}) == {"green": 20}
    assert served.ask(20, headers={"x-group": "beta2"}) == {"blue": 20}
    assert served.ask(20) == {"blue": 20}


@pytest.mark.parametrize(
    ("cookies", "slot"),
    [
        ("group=be.ta+", "green"),
        ("a=1; group=be.ta+", "green"),
        ("group=be.ta+; z=1", "green"),
        ("a=1;group=be.ta+;z=1", "green"),
        ("group=be.ta", "blue"),
        ("group=be.ta+2", "blue"),
        ("group=bexta+", "blue"),
        ("mygroup=be.ta+", "blue"),
        ("a=group=be.ta+", "blue"),
    ],
)
def test_users_with_the_cookie_get_the_candidate_and_nobody_else_does(
    served: Served, cookies: str, slot: str
) -> None:
    if served.router.observed_split() != beta("cookie", "group", "be.ta+"):
        served.route(beta("cookie", "group", "be.ta+"))
    assert served.ask(5, headers={"cookie": cookies}) == {slot: 5}


def test_testers_get_the_slot_that_they_name_whatever_the_split(served: Served) -> None:
    for split in (TrafficSplit.all_to(Slot.BLUE), beta("header", "x-group", "beta")):
        served.route(split)
        for slot in Slot:
            for others in ({}, {"x-group": "beta"}):
                named = {"x-coalmine-slot": slot.value, **others}
                assert served.ask(5, headers=named) == {slot.value: 5}


def test_every_request_is_copied_once_and_nobody_sees_what_the_copies_get(served: Served) -> None:
    served.route(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=100))
    path = "/v2/models/m/copied"
    assert served.ask(200, path) == {"blue": 200}
    routed.eventually(lambda: sum(served.seen(Slot.GREEN, path).values()) == 200, "all copies arrived")
    assert sum(served.seen(Slot.BLUE, path).values()) == 200
    # Here the proxy adds no `-shadow` to the copies' Host; others may.
    print(f"{served.technology.name}: the Host of copies is {[*served.seen(Slot.GREEN, path)]}")


def test_a_share_of_the_requests_is_copied(served: Served) -> None:
    served.route(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=20))
    path = "/v2/models/m/copied-in-part"
    assert served.ask(2000, path) == {"blue": 2000}
    time.sleep(1.0)
    copies = sum(served.seen(Slot.GREEN, path).values())
    print(f"{served.technology.name}: 20 % asked for, {copies / 2000:.1%} of 2000 requests copied")
    assert abs(copies - 400) < 4 * math.sqrt(2000 * 0.2 * 0.8)


def test_a_failure_reaches_the_user_and_is_not_tried_again(served: Served) -> None:
    served.route(TrafficSplit.all_to(Slot.BLUE))
    path = "/v2/models/m/fail"
    before = sum(served.seen(Slot.BLUE, path).values())
    assert served.ask(20, path) == {"503": 20}
    assert sum(served.seen(Slot.BLUE, path).values()) == before + 20


def test_requests_of_a_model_whose_name_begins_alike_stay_out(served: Served) -> None:
    served.route(TrafficSplit.all_to(Slot.BLUE))
    assert served.ask(path="/v2/models/m") == {"blue": 1}
    assert served.ask(path="/v2/models/m/versions/1/infer") == {"blue": 1}
    assert served.ask(path="/v2/models/m2/infer") == {"404": 1}


def test_a_model_without_a_release_answers_nobody_and_holds_nobody_up(
    served: Served, tmp_path_factory: pytest.TempPathFactory
) -> None:
    publish(served, "unreleased", None, tmp_path_factory)
    time.sleep(1.0)
    (status,) = served.ask(path="/v2/models/unreleased/infer")
    print(f"{served.technology.name}: before the first release users get {status}")
    assert status in ("500", "503")
    for slot in Slot:
        served.route(TrafficSplit.all_to(slot))
        assert served.ask(5) == {slot.value: 5}


def test_no_request_fails_while_users_are_moved(served: Served) -> None:
    served.route(TrafficSplit.all_to(Slot.BLUE))
    answered: Counter[str] = Counter()
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            answered.update(served.ask(100))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        for turn in range(10):
            served.route(TrafficSplit.canary(Slot.GREEN, (turn * 37) % 101))
    finally:
        over.set()
        loading.join()
    assert set(answered) == {"blue", "green"}


def test_a_split_that_was_set_takes_effect_soon(served: Served) -> None:
    served.route(TrafficSplit.all_to(Slot.BLUE))
    returned_s, effect_s = [], []
    for turn in range(20):
        slot = Slot.GREEN if turn % 2 == 0 else Slot.BLUE
        before = time.monotonic()
        served.router.set_split(TrafficSplit.all_to(slot))
        returned_s.append(time.monotonic() - before)
        while served.ask(1) != {slot.value: 1}:
            assert time.monotonic() - before < TAKES_EFFECT_WITHIN_S
        effect_s.append(time.monotonic() - before)
    for what, seconds in (("set_split returned", returned_s), ("the next request obeyed", effect_s)):
        print(
            f"{served.technology.name}: {what} after {statistics.median(seconds):.3f} s in the median, "
            f"{max(seconds):.3f} s at most, over {len(seconds)}"
        )
