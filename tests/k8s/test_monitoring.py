"""The component `monitoring`: its alerts fire on what servers and runners tell when something is wrong, and
on nothing else; alerts and dashboard know no number that nobody tells."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coalmine.errors import CoalmineError
from coalmine.operations.runner_metrics import RunnerMetrics
from coalmine.rollout.state import Phase
from coalmine.serving.audience import Audience
from coalmine.serving.refusal import FailureKind
from coalmine.serving.telemetry import Telemetry as ServerTelemetry
from coalmine.settings import PrometheusSettings
from coalmine.spec import Task
from coalmine.telemetry.prometheus import Instant, Prometheus
from tests.k8s.environments import PROMOTED, Repository
from tests.k8s.validation import faults
from tests.telemetry.real_prometheus import awaited, running_prometheus, scrape
from tests.telemetry.told import Told, telling

Json = dict[str, Any]

COMPONENT = Path(__file__).parents[2] / "k8s/components/monitoring"
ALERTS: list[Json] = [
    alert
    for group in yaml.safe_load((COMPONENT / "alerts.yaml").read_text(encoding="utf-8"))["spec"]["groups"]
    for alert in group["rules"]
]
DASHBOARD: Json = json.loads((COMPONENT / "dashboard.json").read_text(encoding="utf-8"))
IDS = [alert["alert"] for alert in ALERTS]


# --- the objects -----------------------------------------------------------------------


def test_an_environment_gets_it_once_for_all_models(repository: Repository) -> None:
    repository.fill(PROMOTED)
    repository.add_component("monitoring", "kustomization.yaml")
    built = repository.build()
    ours = [each for each in built.objects if each["kind"] in ("PodMonitor", "PrometheusRule")]
    assert [fault for each in ours for fault in faults(each)] == []
    assert [each["kind"] for each in ours].count("PodMonitor") == len(ours) - 1 == 2
    assert {each["metadata"]["namespace"] for each in ours} == {"models"}
    board = built.one("ConfigMap", "coalmine-dashboard")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["coalmine.json"]) == DASHBOARD


def test_it_scrapes_every_pod_of_every_model(repository: Repository) -> None:
    repository.fill(PROMOTED)
    repository.add_component("monitoring", "kustomization.yaml")
    built = repository.build()
    monitor = built.one("PodMonitor", "coalmine-model-servers")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    templates = [each["spec"]["template"] for each in built.objects if each["kind"] == "Deployment"]
    assert templates
    for pod in templates:
        assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (server,) = pod["spec"]["containers"]
        assert endpoint["port"] in [port["name"] for port in server["ports"]]


def test_every_alert_says_what_to_do_and_no_two_have_one_name() -> None:
    assert len(set(IDS)) == len(IDS)
    for alert in ALERTS:
        assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"].keys() == {"severity"}
        assert alert["annotations"].keys() == {"summary", "description"}


# --- what is told ----------------------------------------------------------------------


def model(slot: str, good: int, failed: int = 0) -> str:
    who = {"model_name": "m", "model_version": "1.0.0", "slot": slot}
    server = ServerTelemetry(who, "d1gest", Task.BINARY, time.time(), int)
    for code, count in ((200, good), (500, failed)):
        for _ in range(count):
            server.answered(Audience.USERS, code, 0.01)
    server.failed(Audience.USERS, FailureKind.MODEL)
    server.predicted(Audience.USERS, {"probability": [0.5]})
    server.lost(0.5)
    return server.exposition().decode()


def runner(*phases: Phase, at_s: float | None = None) -> str:
    """at_s: when it last looked, and last looked without an error."""
    metrics = RunnerMetrics("production")
    metrics.looked()
    metrics.ticked(0.1, 0.0, well=True)
    for number, phase in enumerate(phases):
        metrics.in_phase(f"m{number}", phase)
    text = generate_latest(metrics.registry).decode()
    if at_s is not None:
        text = re.sub(r"(?m)^(coalmine_runner_last_\w+_timestamp_seconds) .*$", rf"\1 {at_s}", text)
    return text


def numbers(expression: str) -> set[str]:
    return set(re.findall(r"\bcoalmine_[a-z_]+", expression))


def test_no_alert_and_no_panel_asks_for_a_number_that_nobody_tells() -> None:
    families = [*text_string_to_metric_families(model("blue", 1)), *text_string_to_metric_families(runner())]
    told = {sample.name for family in families for sample in family.samples}
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each]
    for expression in [*(alert["expr"] for alert in ALERTS), *panels, *variables]:
        assert numbers(expression) <= told, expression


class Place:
    """Two servers and a runner, as a Prometheus scrapes them."""

    def __init__(self, url: str, told: Told) -> None:
        self._told = told
        self.prometheus = Prometheus(PrometheusSettings(url=url))

    def is_told(self, blue: str, green: str, runner: str) -> None:
        self._told.answers |= {"/blue": blue, "/green": green, "/runner": runner}
        since_s = time.time()
        awaited(
            lambda: self.prometheus.ask(f"count(timestamp(up) > {since_s + 0.3})") == 3,
            "all are scraped twice",
        )

    def is_gone(self, pod: str) -> None:
        del self._told.answers[f"/{pod}"]

    def fires(self, alert: str) -> list[Instant]:
        (found,) = [each for each in ALERTS if each["alert"] == alert]
        return self.prometheus.find(found["expr"])


@pytest.fixture(scope="module")
def one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    def job(name: str, of: str) -> Json:
        path, labels = f"/{name}", {"namespace": "models", "pod": name, "job": f"models/coalmine-{of}"}
        return scrape(name, told.port, path=path, labels=labels)

    with telling() as told:
        told.answers |= {"/blue": model("blue", 0), "/green": model("green", 0), "/runner": runner()}
        jobs = [job("blue", "model-servers"), job("green", "model-servers"), job("runner", "runner")]
        with running_prometheus(tmp_path_factory.mktemp("prometheus"), jobs) as url:
            place = Place(url, told)
            awaited(lambda: place.prometheus.ask("count(up == 1)") == 3, "all are scraped")
            yield place


@pytest.fixture
def place(one_place: Place) -> Place:
    """All is well; one request has failed, so that the series of its code is there to rise."""
    one_place.is_told(model("blue", 0, failed=1), model("green", 0), runner())
    return one_place


@pytest.mark.parametrize("alert", IDS)
def test_nothing_fires_while_all_is_well(place: Place, alert: str) -> None:
    place.is_told(model("blue", 1000, failed=10), model("green", 0), runner())
    assert place.fires(alert) == []


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_every_panel_is_taken_by_prometheus(place: Place, panel: Json) -> None:
    for target in panel["targets"]:
        filled = target["expr"].replace("$__rate_interval", "1m")
        filled = filled.replace("$namespace", ".*").replace("$model", ".*")
        place.prometheus.find(filled)  # raises what Prometheus does not understand


HOUR_AGO_S = time.time() - 3600


@pytest.mark.parametrize(
    ("alert", "blue", "green", "told"),
    [
        pytest.param("CoalmineModelFailing", model("blue", 0, failed=900), model("green", 0), runner()),
        pytest.param(
            "CoalmineCandidateWithoutRunner",
            model("blue", 2000),
            model("green", 100),
            runner(Phase.PROMOTED, Phase.ROLLED_BACK),
        ),
        pytest.param(
            "CoalmineRunnerNotLooking", model("blue", 0), model("green", 0), runner(at_s=HOUR_AGO_S)
        ),
        pytest.param(
            "CoalmineRolloutUnmeasured",
            model("blue", 0),
            model("green", 0),
            runner(Phase.PROGRESSING, at_s=HOUR_AGO_S),
        ),
        pytest.param("CoalmineRolloutHeld", model("blue", 0), model("green", 0), runner(Phase.BAKING)),
        pytest.param("CoalmineRolledBack", model("blue", 0), model("green", 0), runner(Phase.ROLLED_BACK)),
    ],
    ids=lambda each: each if isinstance(each, str) and each in IDS else "",
)
def test_each_alert_fires_on_what_it_is_for(
    place: Place, alert: str, blue: str, green: str, told: str
) -> None:
    place.is_told(blue, green, told)
    fired = place.fires(alert)
    assert fired
    (found,) = [each for each in ALERTS if each["alert"] == alert]
    said = " ".join(found["annotations"].values())
    for label in re.findall(r"\$labels\.(\w+)", said):
        assert fired[0].labels.get(label), f"{label} is empty in: {said}"


def test_a_rollout_that_a_runner_drives_is_not_without_one(place: Place) -> None:
    place.is_told(model("blue", 4000), model("green", 300), runner(Phase.PROGRESSING))
    assert place.fires("CoalmineCandidateWithoutRunner") == []


def test_a_pod_that_cannot_be_scraped_is_told_and_a_model_without_any(place: Place) -> None:
    place.is_gone("green")
    awaited(lambda: bool(place.fires("CoalmineScrapeFailing")), "the scrape has failed")
    (fired,) = place.fires("CoalmineScrapeFailing")
    assert fired.labels["pod"] == "green"
    (alert,) = [each for each in ALERTS if each["alert"] == "CoalmineModelNotScraped"]
    sooner = alert["expr"].replace("offset 15m", "offset 5s")
    assert place.prometheus.find(sooner) == []
    place.is_gone("blue")
    awaited(lambda: bool(place.prometheus.find(sooner)), "the model is missed")
    (fired,) = place.prometheus.find(sooner)
    assert fired.labels == {"namespace": "models", "model_name": "m"}


def test_the_runner_counts_each_ending_once() -> None:
    metrics = RunnerMetrics("production")
    for phase in (Phase.PROGRESSING, Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ROLLED_BACK):
        metrics.in_phase("m", phase)
    metrics.port_failed("record", CoalmineError("x"))
    told = generate_latest(metrics.registry).decode()
    assert 'coalmine_runner_endings_total{phase="rolled_back"} 1.0' in told
    assert 'coalmine_runner_endings_total{phase="promoted"} 0.0' in told
