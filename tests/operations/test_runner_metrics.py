"""The runner's own numbers: what a scraper reads, and when the runner says that it is well."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from coalmine.errors import MachineUnready, RouterUnavailable, TelemetryUnavailable
from coalmine.operations import runner_metrics
from coalmine.operations.runner_metrics import RunnerMetrics, served
from coalmine.rollout.state import Phase
from coalmine.rollout.watched import watched
from coalmine.slots import Slot
from tests.ports import reserved_port
from tests.simulators.world import World


def numbers(metrics: RunnerMetrics) -> dict[str, float]:
    """Series without labels by name, the others by name and labels' values."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
    }


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_rollouts_are_counted_by_phase_for_as_long_as_they_are_driven() -> None:
    metrics = RunnerMetrics("local")
    metrics.of("a").saved(Phase.PROGRESSING)
    metrics.of("b").saved(Phase.PROGRESSING)
    metrics.of("b").saved(Phase.BAKING)
    seen = numbers(metrics)
    assert seen["coalmine_runner_rollouts progressing"] == 1
    assert seen["coalmine_runner_rollouts baking"] == 1
    assert seen["coalmine_runner_rollouts rolling_back"] == 0
    metrics.left("b")
    assert numbers(metrics)["coalmine_runner_rollouts baking"] == 0


def test_a_tick_with_an_error_of_a_port_is_no_success() -> None:
    metrics = RunnerMetrics("local")
    watch = metrics.of("a")
    watch.port_failed("telemetry", TelemetryUnavailable("it is down"))
    watch.ticked(0.01, 0.0)
    seen = numbers(metrics)
    assert seen["coalmine_runner_port_errors_total telemetry TelemetryUnavailable"] == 1
    assert seen["coalmine_runner_tick_seconds_count"] == 1
    assert seen["coalmine_runner_last_success_timestamp_seconds"] == 0
    watch.ticked(0.01, 0.0)
    assert numbers(metrics)["coalmine_runner_last_success_timestamp_seconds"] > 0


def test_watched_ports_do_as_the_ports_themselves_and_tell_of_what_they_raise() -> None:
    world, metrics = World(), RunnerMetrics("local")
    ports = watched(world.ports(), metrics.of("m"))
    world.router.down = True
    with pytest.raises(RouterUnavailable, match="the simulated router is down"):
        ports.router.observed_split()
    world.router.down = False
    assert ports.router.observed_split() is None
    ports.journal.save({"state": {"phase": "baking"}})
    assert world.journal.state == {"state": {"phase": "baking"}}
    assert ports.telemetry.read(Slot.GREEN) == world.telemetry.read(Slot.GREEN)
    seen = numbers(metrics)
    assert seen["coalmine_runner_port_errors_total router RouterUnavailable"] == 1
    assert seen["coalmine_runner_rollouts baking"] == 1


def test_it_is_well_for_as_long_as_it_looks_for_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, port = RunnerMetrics("local"), reserved_port()
    with served(metrics, port):
        assert get(port, "/healthz") == (200, "ok\n")
        status, text = get(port, "/metrics")
        assert status == 200
        assert 'coalmine_runner_info{environment="local"} 1.0' in text
        assert get(port, "/")[0] == 404
        monkeypatch.setattr(runner_metrics, "LOOKED_WITHIN_S", 0.0)
        assert get(port, "/healthz")[0] == 503


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    metrics, port = RunnerMetrics("local"), reserved_port()
    refused = pytest.raises(MachineUnready, match=f"127.0.0.1:{port} .*--metrics-port")
    with served(metrics, port), refused, served(metrics, port):
        pass


def test_it_is_told_at_loopback_unless_another_address_is_asked_for() -> None:
    port = reserved_port()
    with served(RunnerMetrics("local"), port, "127.0.0.2"):
        with urllib.request.urlopen(f"http://127.0.0.2:{port}/healthz", timeout=10) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.URLError):
            get(port, "/healthz")


def test_an_address_of_another_machine_is_said() -> None:
    with (
        pytest.raises(MachineUnready, match=r"192\.0\.2\.1:9464 cannot be listened on .*--metrics-host"),
        served(RunnerMetrics("local"), 9464, "192.0.2.1"),
    ):
        raise AssertionError("it listens")
