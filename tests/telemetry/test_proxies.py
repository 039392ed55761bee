"""What the proxies of each technology say never reached a pod, on recorded expositions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.settings import PrometheusSettings
from coalmine.slots import Slot
from coalmine.telemetry.prometheus import Instant, Prometheus
from coalmine.telemetry.proxies import APP_MESH, BY_ROUTER, ISTIO, Proxies, Unreached
from tests.telemetry.real_prometheus import awaited, running_prometheus, scrape
from tests.telemetry.told import telling

FOLDER = Path(__file__).parent / "expositions"
# Of each technology by its file: refused, without a pod, broken; not what a server counts itself.
UNREACHED = {"istio": (0, 1 + 2 + 4 + 16), "linkerd": (0, 1 + 2 + 4), "appmesh": (2, 3 + 3)}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has scraped the expositions."""
    with telling() as told:
        for name in BY_ROUTER:
            told.answers[f"/{name}"] = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
        jobs = [scrape(name, told.port, path=f"/{name}") for name in BY_ROUTER]
        with running_prometheus(tmp_path_factory.mktemp("prometheus"), jobs) as url:
            prometheus = Prometheus(PrometheusSettings(url=url))
            awaited(lambda: prometheus.ask("sum(up)") == len(BY_ROUTER), "all are scraped")
            yield prometheus


@pytest.mark.parametrize("router", list(BY_ROUTER))
def test_failures_that_no_server_counts_are_found_by_slot(prometheus: Prometheus, router: str) -> None:
    proxies = BY_ROUTER[router]
    unreached = Unreached(proxies, "m")
    unreached.take(prometheus.find(proxies.select("m", "models")))
    assert (unreached.of(Slot.BLUE), unreached.of(Slot.GREEN)) == UNREACHED[router]
    assert unreached.has_spoken


@pytest.mark.parametrize("router", list(BY_ROUTER))
def test_proxies_that_know_nothing_of_a_model_have_not_spoken(prometheus: Prometheus, router: str) -> None:
    unreached = Unreached(BY_ROUTER[router], "n")
    unreached.take(prometheus.find(BY_ROUTER[router].select("n", "models")))
    assert not unreached.has_spoken


def refused(value: float, pod: str = "gateway", flags: str = "UF", slot: str = "green") -> Instant:
    labels = {"destination_service_name": f"m-{slot}", "response_flags": flags, "pod": pod}
    return Instant(labels, value, 0.0)


@pytest.mark.parametrize(
    ("looks", "counted"),
    [
        pytest.param([[refused(3)], [refused(5)]], 5, id="goes on"),
        pytest.param([[refused(3)], [refused(2)]], 5, id="begins anew with its proxy"),
        pytest.param([[refused(3)], [], [refused(4)]], 4, id="is away for a while"),
        pytest.param([[refused(9, flags="-")], [refused(2)]], 2, id="is new at a proxy that is known"),
        pytest.param(
            [[refused(3)], [refused(3), refused(900, "other")], [refused(3), refused(901, "other")]],
            4,
            id="a proxy that is found later counts from then on",
        ),
    ],
)
def test_counters_of_proxies_come_and_go(looks: list[list[Instant]], counted: int) -> None:
    unreached = Unreached(ISTIO, "m")
    for found in looks:
        unreached.take(found)
    assert unreached.of(Slot.GREEN) == counted


def test_what_is_no_count_is_not_added() -> None:
    with pytest.raises(TelemetryUnavailable, match="Istio counts nan"):
        Unreached(ISTIO, "m").take([refused(float("nan"))])


@pytest.mark.parametrize("proxies", BY_ROUTER.values(), ids=list(BY_ROUTER))
def test_a_models_name_is_taken_as_it_is_written(proxies: Proxies) -> None:
    label, _ = proxies.slot_in
    named = "cds_egress_shop_{}-green_models_http_8080" if proxies is APP_MESH else "{}-green"
    assert proxies.slot({label: named.format("m")}, "m") is Slot.GREEN
    for other in ("am", "m-x", "M"):
        assert proxies.slot({label: named.format(other)}, "m") is None
