"""The telemetry of a cluster keeps the port's contract: with the real Prometheus, and with servers and a
gateway of Istio that count as the real ones do and serve nobody."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Arm, Reading
from coalmine.serving.audience import Audience
from coalmine.serving.telemetry import Telemetry as ServerTelemetry
from coalmine.settings import PrometheusSettings
from coalmine.slots import Slot
from coalmine.spec import Task
from coalmine.telemetry.pods import ReadyPod
from coalmine.telemetry.prometheus import Prometheus
from coalmine.telemetry.prometheus_counts import PrometheusTelemetry
from coalmine.telemetry.proxies import ISTIO
from tests.contracts.telemetry import EndRequest, Outcome, TelemetryContract
from tests.ports import reserved_port
from tests.telemetry.real_prometheus import awaited, running_prometheus, scrape
from tests.telemetry.told import telling

CODES = {
    Outcome.ANSWERED: 200,
    Outcome.REFUSED_INPUT: 422,
    Outcome.SERVER_ERROR: 500,
    Outcome.TIMEOUT: 499,  # to the server, a client who left
}
FLAGS = {Outcome.TIMEOUT: "UT", Outcome.RESET: "UC", Outcome.REFUSED: "UF"}


class Shop:
    """A model's two servers, the gateway before them, and the Prometheus that scrapes all three."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._everything = ExitStack()
        self._begin()
        jobs = [scrape("gateway", self._told(self._gateway), labels={"pod": "gateway"})]
        for slot in Slot:
            labels = {"namespace": "shop", "pod": f"m-{slot}-0"}
            jobs.append(scrape(slot.value, self._told(self._server(slot)), labels=labels))
        self._url = self._everything.enter_context(running_prometheus(folder, jobs))
        self.reopen()

    def reopen(self) -> None:
        """All pods and the gateway are new; Prometheus is reached and has scraped them."""
        self.prometheus = Prometheus(PrometheusSettings(url=self._url))
        with self._lock:
            self._begin()
        self.await_scrapes()

    def _begin(self) -> None:
        self._sent: Counter[tuple[Slot, str]] = Counter({(slot, "-"): 0 for slot in Slot})
        self._servers = {
            slot: ServerTelemetry(
                {"model_name": "m", "model_version": "1", "slot": slot.value},
                "d1gest",
                Task.BINARY,
                time.time(),
                int,
            )
            for slot in Slot
        }

    def cut(self) -> None:
        self.prometheus = Prometheus(PrometheusSettings(url=f"http://127.0.0.1:{reserved_port()}"))

    def end_request(self, slot: Slot, outcome: Outcome) -> None:
        self.count(slot, outcome)
        self.await_scrapes()

    def count(self, slot: Slot, outcome: Outcome) -> None:
        with self._lock:
            self._sent[slot, FLAGS.get(outcome, "-")] += 1
            if outcome in CODES:
                self._servers[slot].answered(Audience.USERS, CODES[outcome], 0.004)

    def await_scrapes(self) -> None:
        """Until everybody was scraped since now."""
        now_s = time.time()
        scraped = "timestamp(coalmine_started_seconds) or max by (pod) (timestamp(istio_requests_total))"
        awaited(lambda: self.prometheus.ask(f"count(({scraped}) > {now_s})") == 3, "all are scraped")

    def telemetry(self) -> PrometheusTelemetry:
        def ready() -> list[ReadyPod]:
            return [ReadyPod(f"m-{slot}-0", slot, 60.0) for slot in Slot]

        return PrometheusTelemetry(
            "m", "shop", lambda q: self.prometheus.find(q), ready, ISTIO, answered=True
        )

    def end(self) -> None:
        self._everything.close()

    def _told(self, exposition: Callable[[str], str]) -> int:
        told = self._everything.enter_context(telling())
        told.answers["/metrics"] = exposition
        return told.port

    def _server(self, slot: Slot) -> Callable[[str], str]:
        def exposition(_: str) -> str:
            with self._lock:
                return self._servers[slot].exposition().decode()

        return exposition

    def _gateway(self, _: str) -> str:
        with self._lock:
            return "".join(
                f'istio_requests_total{{reporter="source",destination_service_name="m-{slot}",'
                f'destination_service_namespace="shop",response_flags="{flags}"}} {count}\n'
                for (slot, flags), count in self._sent.items()
            )


class RunnersTelemetry:
    """That of whichever runner drives now: what it adds up goes with it."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.start_again()

    def start_again(self) -> None:
        self._telemetry = self._shop.telemetry()

    def read(self, candidate: Slot) -> Reading:
        return self._telemetry.read(candidate)


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("prometheus"))
    yield shop
    shop.end()


@pytest.fixture
def shop(one_shop: Shop) -> Shop:
    one_shop.reopen()
    return one_shop


class TestPrometheusKeepsTheContract(TelemetryContract):
    @pytest.fixture
    def telemetry(self, shop: Shop) -> RunnersTelemetry:
        return RunnersTelemetry(shop)

    @pytest.fixture
    def end_request(self, shop: Shop) -> EndRequest:
        return shop.end_request

    @pytest.fixture
    def restart(self, telemetry: RunnersTelemetry) -> Callable[[], None]:
        return telemetry.start_again

    @pytest.fixture
    def cut(self, shop: Shop) -> Callable[[], None]:
        return shop.cut


def test_looks_between_two_scrapes_tell_both_arms_or_neither(shop: Shop) -> None:
    telemetry = shop.telemetry()
    told = []
    done = threading.Event()

    def users() -> None:
        while not done.wait(0.01):
            for slot in Slot:
                shop.count(slot, Outcome.ANSWERED)

    thread = threading.Thread(target=users)
    thread.start()
    until_s = time.monotonic() + 3
    while time.monotonic() < until_s:
        reading = telemetry.read(Slot.GREEN)
        told.append(tuple(reading.arms[arm].requests for arm in Arm))
        assert 0 <= reading.late_s < 2
    done.set()
    thread.join()
    steps = [(now[0] - before[0], now[1] - before[1]) for before, now in pairwise(told)]
    grown = [step for step in steps if step != (0, 0)]
    assert len(grown) >= 5
    assert all(candidate and stable for candidate, stable in grown)


def test_a_pod_that_prometheus_does_not_scrape_is_said(shop: Shop) -> None:
    def ready() -> list[ReadyPod]:
        return [ReadyPod("m-green-1", Slot.GREEN, 5.0)]

    with pytest.raises(TelemetryUnavailable, match="no counts of pod m-green-1 for 5 s"):
        PrometheusTelemetry("m", "shop", shop.prometheus.find, ready).read(Slot.GREEN)
