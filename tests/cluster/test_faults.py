"""Whatever dies while a release is rolled out on a cluster: users end on a model that works, nothing is
stuck, and the story says what happened. 200 users a second, Flux looking every 10 s, good releases.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster, ClusterUnavailable
from coalmine.cluster.kinds import DEPLOYMENT, LEASE
from coalmine.reconcilers.pods import is_available
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers import hands
from coalmine.routers.cluster_route import route_name
from coalmine.slots import Slot
from coalmine.wiring import TECHNOLOGIES
from tests.cluster import parts, routed
from tests.cluster.shop import ENVIRONMENT, PER_S, ROLLED_BACK, Shop, opened
from tests.scenarios.users import Users
from tests.scenarios.workplace import MODEL, stopped_at_the_end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MOMENTS = {
    "in a stage": "Stage 1 of 2",
    "while stepping": "Stage 2 of 2",
    "while promoting": "Promoting",
}
AWAY_S = 20.0
UNAVAILABLE = 4  # what `coalmine` says with it: run again
BACK_WITHIN_S = 60.0
NOTICED_WITHIN_S = 3.0  # that a slot's only pod is gone, or there again


@pytest.fixture(scope="module", params=["gateway_api", "istio"])
def shop(
    request: pytest.FixtureRequest,
    released: Path,
    any_cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """1.0.0 serves at first. Each test leaves a model that works, whichever."""
    folder = tmp_path_factory.mktemp("shop")
    with (
        routed.namespace(any_cluster) as cluster,
        opened(released, folder, cluster, request.param) as shop,
        stopped_at_the_end(shop.work),
    ):
        shop.deliver("1.0.0")
        yield shop


# --- what is taken away ------------------------------------------------------------------

Fault = Callable[[Shop, subprocess.Popen[str]], AbstractContextManager[None]]


def away(name: str) -> Fault:
    @contextmanager
    def fault(_shop: Shop, _delivery: subprocess.Popen[str]) -> Iterator[None]:
        with parts.stopped(name):
            time.sleep(AWAY_S)
        yield

    return fault


@contextmanager
def gateway_away(_shop: Shop, _delivery: subprocess.Popen[str]) -> Iterator[None]:
    with parts.scaled_away("envoy-gateway-system", "envoy-gateway"):
        time.sleep(AWAY_S)
    yield


@contextmanager
def api_server_away(shop: Shop, delivery: subprocess.Popen[str]) -> Iterator[None]:
    """So long that Envoy Gateway is no longer its own leader; a liveness probe has it started again then."""
    with away("kube-apiserver")(shop, delivery):
        if shop.router == "gateway_api":
            parts.kill_pods("envoy-gateway-system", "control-plane=envoy-gateway")
        yield


@contextmanager
def runner_killed(shop: Shop, delivery: subprocess.Popen[str]) -> Iterator[None]:
    """And another one is started, as its Deployment does."""
    delivery.kill()
    killed, told = time.monotonic(), len(shop.events())
    service = shop.work.start("runner", "--environment", ENVIRONMENT)
    try:
        while len(shop.events()) == told:
            assert time.monotonic() - killed < BACK_WITHIN_S
            time.sleep(0.1)
        print(f"gone on after {time.monotonic() - killed:.1f} s")
        yield
    finally:
        service.terminate()
        service.communicate()


def pods_killed(role: str) -> Fault:
    @contextmanager
    def fault(shop: Shop, _delivery: subprocess.Popen[str]) -> Iterator[None]:
        slot = slot_of(shop, role)
        parts.kill_pods(shop.cluster.namespace, f"app.kubernetes.io/name={MODEL},coalmine.dev/slot={slot}")
        yield

    return fault


def disk_full(role: str) -> Fault:
    @contextmanager
    def fault(shop: Shop, _delivery: subprocess.Popen[str]) -> Iterator[None]:
        slot = slot_of(shop, role)
        labels = f"app.kubernetes.io/name={MODEL},coalmine.dev/slot={slot}"
        parts.fill_disk(shop.cluster.namespace, labels, "/tmp")
        yield

    return fault


FAULTS: dict[str, Fault] = {
    "the runner": runner_killed,
    "the API server": api_server_away,
    "Flux": away("kustomize-controller"),
    "Flux's source": away("source-controller"),
    "Prometheus": away("prometheus"),
    "Envoy Gateway": gateway_away,
    "istiod": away("istiod"),
    "a candidate pod": pods_killed("candidate"),
    "a stable pod": pods_killed("stable"),
    "the disk of a candidate pod": disk_full("candidate"),
    "the disk of a stable pod": disk_full("stable"),
}
OF_ROUTERS = {"Envoy Gateway": "gateway_api", "istiod": "istio"}
OF_PODS = {fault for fault in FAULTS if fault.endswith(" pod")}


# --- the matrix --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_users_end_on_a_model_that_works_and_nothing_is_stuck(shop: Shop, fault: str, moment: str) -> None:
    if OF_ROUTERS.get(fault, shop.router) != shop.router:
        pytest.skip(f"{fault} moves nobody of this shop")
    version = "1.1.0" if shop.slots["stable"] == "1.0.0" else "1.0.0"
    with shop.users() as users, without_pods(shop) as missed_s:
        users.await_requests(200)
        with shop.delivering(version, "--retry") as delivery:
            shop.await_told(MOMENTS[moment])
            missed_s.clear()  # the candidate's start
            with FAULTS[fault](shop, delivery):
                ended = end(shop, delivery, version)
        print(f"--- {fault}, {moment}: {ended}")
        shop.told(users)
        at_rest(shop, users)
    # A slot has one pod here: whoever is with it waits for the next one.
    print(f"a slot had no pod for {sum(missed_s):.1f} s")
    allowed = (sum(missed_s) + NOTICED_WITHIN_S) * PER_S if fault in OF_PODS else 0
    assert sum(users.failures.values()) <= allowed, users.failures


@contextmanager
def without_pods(shop: Shop) -> Iterator[list[float]]:
    """Seconds in which a slot had no pod that is ready, as they come while the block runs."""
    missed_s: list[float] = []
    over = threading.Event()

    def look() -> None:
        looked = time.monotonic()
        while not over.wait(0.1):
            before, looked = looked, time.monotonic()
            with suppress(ClusterUnavailable):
                if not all(map(is_available, shop.cluster.list(DEPLOYMENT))):
                    missed_s.append(looked - before)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield missed_s
    finally:
        over.set()
        looking.join()


def end(shop: Shop, delivery: subprocess.Popen[str], version: str) -> str:
    """How the rollout ended; whoever is told to run again does."""
    said = delivery.communicate(timeout=120)
    deadline = time.monotonic() + BACK_WITHIN_S
    status = delivery.returncode
    while status not in (0, ROLLED_BACK):
        assert status in (UNAVAILABLE, -signal.SIGKILL), said
        assert time.monotonic() < deadline
        again = shop.start("deliver", "--version", version, "--retry")
        ran = shop.work.ended(again)
        print("again:", ran.out, ran.err)
        status = ran.status
    return "promoted" if status == 0 else "rolled back"


def at_rest(shop: Shop, users: Users) -> None:
    """Git, the route and what users get are of one mind, and nobody holds anything."""
    shop.work.git("pull", "-q", "--ff-only")
    slots = shop.slots
    assert slots["candidate"] is None
    assert shop.events()[-1]["kind"] in ("promoted", "rolled_back")
    technology = TECHNOLOGIES[shop.router]
    route = shop.cluster.get(technology.kind, route_name(MODEL))
    assert route is not None
    assert technology.split_of(route, MODEL) == TrafficSplit.all_to(Slot(slot_of(shop, "stable")))
    assert hands.memory_of(route) == hands.Memory()
    lease = shop.cluster.get(LEASE, f"{MODEL}-rollout")
    assert lease is not None
    assert "holderIdentity" not in lease["spec"]
    users.await_requests(400)  # those on their way, and a little more
    before = users.answers.copy()
    users.await_requests(200)
    assert {who for who in users.answers if users.answers[who] > before[who]} == {(slots["stable"], 200)}


def slot_of(shop: Shop, role: str) -> str:
    content = shop.work.read_yaml(f"k8s/environments/{ENVIRONMENT}/{MODEL}/slots.yaml")
    return str(content[role])
