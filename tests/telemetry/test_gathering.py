"""When a reading of Envoy is whole, on an Envoy that says what a test puts into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Arm
from coalmine.slots import Slot
from coalmine.telemetry import scrape
from coalmine.telemetry.scrape import ScrapeTelemetry
from tests.telemetry.told import Told, telling

BEGUN = 7  # admin requests, the reading's first among them


def statistics(ended: int, requests: int) -> str:
    return (
        f'envoy_http_downstream_rq_time_count{{envoy_http_conn_manager_prefix="admin"}} {ended}\n'
        'envoy_cluster_membership_total{envoy_cluster_name="m-blue"} 1\n'
        'envoy_cluster_membership_total{envoy_cluster_name="m-green"} 1\n'
        f'envoy_coalmine_requests_ms_count{{cluster="m-green",status="200",flags="-"}} {requests}\n'
    )


@pytest.fixture
def envoy() -> Iterator[Told]:
    with telling() as told:
        told.answers["/config_dump"] = '{"configs": [{"last_updated": "2026-11-25T00:00:00.000Z"}]}'
        told.answers["/stats"] = f"http.admin.downstream_rq_total: {BEGUN}\n"
        yield told


def test_a_reading_waits_for_what_ended_before_it_began(envoy: Told) -> None:
    told = iter(
        [statistics(BEGUN - 2, 3), statistics(BEGUN - 1, 4), statistics(BEGUN, 5), statistics(BEGUN + 1, 6)]
    )
    envoy.answers["/stats/prometheus"] = lambda _: next(told)
    reading = ScrapeTelemetry("m", f"127.0.0.1:{envoy.port}").read(Slot.GREEN)
    assert reading.arms[Arm.CANDIDATE].requests == 5


def test_counts_that_are_never_gathered_are_no_reading(envoy: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "GATHERED_WITHIN_S", 0.05)
    envoy.answers["/stats/prometheus"] = statistics(BEGUN - 1, 5)
    with pytest.raises(TelemetryUnavailable, match="did not gather"):
        ScrapeTelemetry("m", f"127.0.0.1:{envoy.port}").read(Slot.GREEN)


@pytest.mark.parametrize("dump", ["{}", "no JSON", '{"configs": []}'])
def test_an_envoy_that_does_not_say_since_when_it_counts_is_not_measured(envoy: Told, dump: str) -> None:
    envoy.answers["/config_dump"] = dump
    envoy.answers["/stats/prometheus"] = statistics(BEGUN, 5)
    with pytest.raises(TelemetryUnavailable, match="since when"):
        ScrapeTelemetry("m", f"127.0.0.1:{envoy.port}").read(Slot.GREEN)


def test_an_admin_interface_of_another_program_is_not_measured(envoy: Told) -> None:
    envoy.answers["/stats"] = "hello"
    with pytest.raises(TelemetryUnavailable, match="no count of its requests"):
        ScrapeTelemetry("m", f"127.0.0.1:{envoy.port}").read(Slot.GREEN)
