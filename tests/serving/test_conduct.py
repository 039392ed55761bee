"""How the server carries itself under stress: time, queues, strange routes, leaving."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.serving.in_process import Client
from tests.serving.releases import Built, tensors

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Sleeper:
    """Stands for a model that takes its time."""

    classes_ = np.array([False, True])

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.calls = 0

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        self.calls += 1
        time.sleep(self._seconds)
        return np.full((len(frame), 2), 0.5)


def test_a_request_whose_time_is_over_is_told_to_come_later(binary: Built) -> None:
    client = Client(binary, Sleeper(0.3), timeout_s=0.05)
    started = time.perf_counter()
    answer = client.infer(json={"inputs": tensors(binary, [0])})
    assert time.perf_counter() - started < 0.25
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "no answer within 0.05 s" in answer.json()["error"]
    assert client.metric("coalmine_failures_total", kind="timeout") == 1
    assert client.metric("coalmine_requests_total", code="503") == 1


@pytest.mark.parametrize("path", ["/v2/models/delays/infer", "/v2/models/delays/feedback", "/predict"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_never_ends_holds_nothing_for_longer_than_the_limit(
    path: str, chunked: bool, binary: Built
) -> None:
    client = Client(binary, timeout_s=0.05)
    answer = client.request("POST", path, content=b"{", hangs=True, chunked=chunked)
    assert answer.status_code == 503
    assert client.metric("coalmine_in_flight") == 0


def test_others_are_answered_while_one_waits_for_its_body(binary: Built) -> None:
    client = Client(binary, timeout_s=0.5)
    good = {"json": {"inputs": tensors(binary, [0])}}
    answers = client.together({"content": b"{", "hangs": True}, *[good] * 20)
    assert [each.status_code for each in answers] == [503, *[200] * 20]


def test_a_full_queue_answers_503_and_serves_the_others(binary: Built) -> None:
    model = Sleeper(0.05)
    client = Client(binary, model, queue=5)
    answers = client.together(*[{"json": {"inputs": tensors(binary, [0])}}] * 12)
    codes = [each.status_code for each in answers]
    assert set(codes) == {200, 503}
    assert codes.count(200) >= 5
    assert {each.headers.get("retry-after") for each in answers if each.status_code == 503} == {"1"}
    assert client.metric("coalmine_failures_total", kind="overloaded") == codes.count(503)
    assert client.infer(json={"inputs": tensors(binary, [0])}).status_code == 200


def test_what_timed_out_while_it_waited_is_never_predicted(binary: Built) -> None:
    model = Sleeper(0.1)
    client = Client(binary, model, timeout_s=0.15)
    body = {"json": {"inputs": tensors(binary, [0])}}
    client.together(body)
    model.calls = 0
    model._seconds = 0.3
    assert {each.status_code for each in client.together(*[body] * 3)} == {503}
    time.sleep(0.3)
    assert model.calls == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("HEAD", "/v2/health/ready", 200, None),
        ("GET", "/v2/", 200, None),
        ("GET", "/v2/models/del%61ys", 200, None),
        ("POST", "/v2/models/delays/infer/", 400, None),
        ("OPTIONS", "/v2", 405, "GET, HEAD"),
        ("POST", "/v2/health/live", 405, "GET, HEAD"),
        ("GET", "/predict", 405, "POST"),
        ("G" * 5000, "/predict", 400, None),
        ("CONNECT", "/predict", 405, None),
        ("GET", "/%ff%fe", 404, None),
        ("GET", "//", 200, None),
        ("GET", "/v2/models/" + "x" * 5000, 404, None),
    ],
)
def test_strange_routes(method: str, path: str, status: int, allow: str | None, binary: Built) -> None:
    answer = Client(binary).request(method, path)
    assert answer.status_code == status
    assert answer.headers.get("allow") == allow
    assert len(answer.content) < 500 or status == 200


def test_the_trace_context_is_passed_through(binary: Built) -> None:
    client, body = Client(binary), {"inputs": tensors(binary, [0])}
    headers = client.infer(json=body, headers={"traceparent": TRACE, "tracestate": "a=b"}).headers
    assert (headers["traceparent"], headers["tracestate"]) == (TRACE, "a=b")
    assert "traceparent" not in client.infer(json=body).headers
    assert "traceparent" not in client.infer(json=body, headers={"traceparent": "00-zz-1-01"}).headers


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/", "text/html; charset=utf-8"), ("/openapi.json", "application/json")],
)
def test_pages_for_people_and_their_tools(path: str, media_type: str, binary: Built) -> None:
    answer = Client(binary).get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


def test_records_are_answered_as_tensors_are(binary: Built) -> None:
    client = Client(binary)
    record = {each["name"]: each["data"][0] for each in tensors(binary, [1])}
    one = client.request("POST", "/predict", json=record).json()
    both = client.request("POST", "/predict", json=[record, record]).json()
    outputs = client.infer(json={"inputs": tensors(binary, [1])}).json()["outputs"]
    assert one["prediction"] == {each["name"]: each["data"][0] for each in outputs}
    assert both["predictions"] == [one["prediction"]] * 2
    assert client.metric("coalmine_requests_total", code="200") == 3


def test_a_label_joins_a_record_by_its_request_id(binary: Built) -> None:
    client = Client(binary)
    record = {each["name"]: each["data"][0] for each in tensors(binary, [1])}
    answer = client.request("POST", "/predict", json=record, headers={"x-request-id": "mine"})
    assert answer.json()["id"] == "mine"
    assert client.feedback({"id": "mine", "label": True}).json()["joined"] == 1
