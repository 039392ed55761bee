"""Requests copied to a real model server, and what telemetry makes of both servers' answers."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from coalmine.rollout.evidence import Arm
from coalmine.rollout.ports import TrafficSplit
from coalmine.slots import Slot
from coalmine.telemetry.answers import ServersAnswers
from coalmine.telemetry.pairs import ServedPairs, of_this_machine
from coalmine.telemetry.scrape import ScrapeTelemetry
from tests.local.harness import eventually
from tests.scenarios.model_servers import ModelServers, model_servers
from tests.scenarios.numbered import MODEL

REQUESTS = 200


@pytest.mark.slow
def test_a_release_in_the_shadow_is_compared_answer_by_answer_and_labelled_too(tmp_path: Path) -> None:
    """The two releases' answers differ by 1001."""
    with model_servers(tmp_path) as servers:
        servers.take(1)
        servers.promote()
        candidate = servers.take(2)
        weights = {candidate: 0, candidate.other: 100}
        servers.router.set_split(TrafficSplit(weights, mirror_percent=100))
        near, far = telemetry(servers, tolerance=1000), telemetry(servers, tolerance=1002)
        before = near.read(candidate)
        users = http.client.HTTPConnection(servers.stack.address, timeout=10)
        ids = [infer(users, candidate.other) for _ in range(REQUESTS)]
        eventually(lambda: copies(near, candidate) == REQUESTS, "every copy has ended")
        compared = [each.read(candidate).pairs for each in (near, far)]
        label(users, ids[:50], candidate.other)
        users.close()
        eventually(lambda: labels(near, candidate) == [50, 50], "both servers have every label")
        after = near.read(candidate)
    assert [(each.compared, each.different) for each in compared if each is not None] == [
        (REQUESTS, REQUESTS),
        (REQUESTS, 0),
    ]
    for arm in Arm:
        assert after.answers[arm].scores[-1][1] == REQUESTS
        assert after.answers[arm].epoch == before.answers[arm].epoch
    assert after.missing == ()
    assert after.mirrored is not None
    assert after.mirrored[Arm.CANDIDATE].failures == 0
    assert after.arms[Arm.CANDIDATE].requests == 0


def telemetry(servers: ModelServers, tolerance: float) -> ScrapeTelemetry:
    ports = {slot: servers.stack.port(f"{MODEL}-{slot}") for slot in Slot}
    answers = ServersAnswers(MODEL, ports)
    pairs = ServedPairs(of_this_machine(MODEL, ports), tolerance)
    return ScrapeTelemetry(MODEL, servers.stack.admin_address, answers, pairs)


def copies(telemetry: ScrapeTelemetry, candidate: Slot) -> int:
    mirrored = telemetry.read(candidate).mirrored
    return 0 if mirrored is None else mirrored[Arm.CANDIDATE].requests


def labels(telemetry: ScrapeTelemetry, candidate: Slot) -> list[int]:
    return [each.labels for each in telemetry.read(candidate).answers.values()]


def infer(users: http.client.HTTPConnection, answers: Slot) -> str:
    """The id of a request that was answered."""
    body = {"inputs": [{"name": "key", "shape": [1], "datatype": "INT64", "data": [5]}]}
    users.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(body), {"content-type": "application/json"})
    answer = users.getresponse()
    content = json.loads(answer.read())
    assert (answer.status, answer.headers["x-coalmine-slot"]) == (200, answers.value), content
    return str(content["id"])


def label(users: http.client.HTTPConnection, ids: list[str], slot: Slot) -> None:
    headers = {"content-type": "application/json", "x-coalmine-slot": slot.value}
    for request_id in ids:
        body = json.dumps({"id": request_id, "label": 1000.0})
        users.request("POST", f"/v2/models/{MODEL}/feedback", body, headers)
        answer = users.getresponse()
        content = answer.read()
        assert answer.status == 200, content
