"""Which of a model's pods take requests, and what they tell through the API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client

from coalmine.cluster.client import Cluster
from coalmine.errors import TelemetryUnavailable
from coalmine.slots import Slot
from coalmine.telemetry.pairs import ServedPairs
from coalmine.telemetry.pods import ModelPods
from tests.ports import reserved_port
from tests.telemetry.told import Told, telling

PODS = "/api/v1/namespaces/shop/pods"


def pod(name: str, slot: str, ready: str = "True", **metadata: Any) -> dict[str, Any]:
    since = (datetime.now(UTC) - timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": name, "labels": {"coalmine.dev/slot": slot}, **metadata},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]},
    }


@pytest.fixture
def told() -> Iterator[Told]:
    with telling() as told:
        yield told


def pods(port: int) -> ModelPods:
    configuration = client.Configuration(host=f"http://127.0.0.1:{port}")
    configuration.retries = False
    return ModelPods(Cluster(client.ApiClient(configuration), "shop"), "m")


def answer(told: Told, *found: dict[str, Any]) -> list[str]:
    """What was asked for besides, in the end."""
    asked: list[str] = []

    def listed(query: str) -> str:
        asked.append(query)
        return json.dumps({"items": found})

    told.answers[PODS] = listed
    return asked


def test_those_that_are_ready_and_stay_take_requests(told: Told) -> None:
    asked = answer(
        told,
        pod("g", "green"),
        pod("starting", "green", ready="False"),
        pod("leaving", "blue", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("of no slot", "red"),
        {"metadata": {"name": "new"}, "status": {}},
    )
    (ready,) = pods(told.port).ready()
    assert (ready.name, ready.slot) == ("g", Slot.GREEN)
    assert 59 < ready.for_s < 70
    assert asked == ["labelSelector=app.kubernetes.io%2Fname%3Dm"]


def test_an_api_server_that_does_not_say_is_no_slot_without_pods(told: Told) -> None:
    with pytest.raises(TelemetryUnavailable, match="Which pods of m there are"):
        pods(reserved_port()).ready()
    told.answers[PODS] = "no JSON"
    with pytest.raises(TelemetryUnavailable, match="no API server"):
        pods(told.port).ready()


def served(*answers: tuple[str, float]) -> str:
    told = [{"id": request_id, "scores": [score]} for request_id, score in answers]
    return json.dumps({"epoch": "1", "next": len(told), "served": told})


def test_pods_of_both_slots_are_asked_what_they_answered(told: Told) -> None:
    answer(told, pod("b1", "blue"), pod("b2", "blue"), pod("g1", "green"))
    told.answers[f"{PODS}/b1:8080/proxy/served"] = served(("a", 0.1))
    told.answers[f"{PODS}/b2:8080/proxy/served"] = served(("b", 0.2))
    told.answers[f"{PODS}/g1:8080/proxy/served"] = served(("a", 0.1), ("b", 0.9))
    pairs = ServedPairs(pods(told.port).servers, tolerance=0.1).read()
    assert (pairs.compared, pairs.different) == (2, 1)


def test_a_pod_that_does_not_tell_is_named(told: Told) -> None:
    answer(told, pod("g1", "green"))
    with pytest.raises(TelemetryUnavailable, match="What g1 answered to each request is not known"):
        ServedPairs(pods(told.port).servers, tolerance=0.1).read()
