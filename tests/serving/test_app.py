from __future__ import annotations

import logging
import time
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.serving.in_process import Client
from tests.serving.releases import Built, tensors


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/delays", 200),
        ("/v2/models/delays/ready", 200),
        ("/v2/models/delays/versions/1.2.0", 200),
        ("/v2/models/delays/versions/1.2.0/ready", 200),
        ("/metrics", 200),
        ("/v2/models/other", 404),
        ("/v2/models/other/ready", 404),
        ("/v2/models/delays/versions/1.3.0", 404),
        ("/v2/models/delays/versions/1.3.0/ready", 404),
        ("/v2/models/delays/infer", 405),
        ("/nothing", 404),
    ],
)
def test_routes(path: str, status: int, binary: Built) -> None:
    answer = Client(binary).get(path)
    assert answer.status_code == status
    assert status == 200 or list(answer.json()) == ["error"]


@pytest.mark.parametrize("path", ["/v2/models/delays/infer", "/v2/models/delays/versions/1.2.0/infer"])
def test_infer_with_and_without_a_version(path: str, binary: Built) -> None:
    answer = Client(binary).request("POST", path, json={"inputs": tensors(binary, [0])})
    assert answer.status_code == 200


def test_infer_for_another_version_says_which_one_is_here(binary: Built) -> None:
    answer = Client(binary).request("POST", "/v2/models/delays/versions/9.0.0/infer", json={})
    assert answer.status_code == 404
    assert answer.json() == {"error": "version '9.0.0' of delays is not here: this server has 1.2.0"}


@pytest.mark.parametrize("path", ["/v2", "/metrics", "/nothing", "/v2/models/other"])
def test_every_answer_says_who_gave_it(path: str, binary: Built) -> None:
    headers = Client(binary).get(path).headers
    assert (headers["x-coalmine-model"], headers["x-coalmine-version"], headers["x-coalmine-slot"]) == (
        "delays",
        "1.2.0",
        "green",
    )
    assert uuid.UUID(headers["x-request-id"])


@pytest.mark.parametrize(
    ("body_id", "header_id", "answered"),
    [("body", "header", "body"), ("", "header", "header"), (None, "header", "header")],
    ids=["the body's first", "an empty one is none", "else the header's"],
)
def test_the_request_id_comes_back(body_id: str | None, header_id: str, answered: str, binary: Built) -> None:
    message = {"inputs": tensors(binary, [0])} | ({} if body_id is None else {"id": body_id})
    answer = Client(binary).infer(json=message, headers={"x-request-id": header_id})
    assert (answer.json()["id"], answer.headers["x-request-id"]) == (answered, answered)


def test_a_refusal_carries_the_request_id_too(binary: Built) -> None:
    assert Client(binary).infer(json={"id": "mine", "inputs": []}).headers["x-request-id"] == "mine"


def test_a_request_without_id_gets_one(binary: Built) -> None:
    answer = Client(binary).infer(json={"inputs": tensors(binary, [0])})
    assert answer.json()["id"] == answer.headers["x-request-id"]
    assert uuid.UUID(answer.json()["id"])


def test_a_strange_id_in_the_header_is_replaced(binary: Built) -> None:
    answer = Client(binary).infer(json={"inputs": tensors(binary, [0])}, headers={"x-request-id": "x" * 200})
    assert uuid.UUID(answer.json()["id"])


class _Broken:
    """Stands for a model that fails on rows that its schema allows."""

    classes_ = np.array([False, True])

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return np.full((len(frame), 2), self._answer)


@pytest.mark.parametrize(
    ("failure", "words"),
    [(RuntimeError("secret of row 7"), "RuntimeError"), (ValueError("odd"), "ValueError"), (np.nan, "NaN")],
    ids=["error", "value error", "nan"],
)
def test_a_model_that_fails_is_a_500_in_the_protocols_shape_and_a_line_in_the_log(
    failure: Any, words: str, binary: Built, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(binary, _Broken(failure))
    with caplog.at_level(logging.ERROR):
        answer = client.infer(json={"inputs": tensors(binary, [0])})
    assert answer.status_code == 500
    assert words in answer.json()["error"]
    assert "secret" not in answer.text
    assert "model_failed" in caplog.text
    assert client.metric("coalmine_failures_total", kind="model") == 1


def test_while_leaving_it_is_alive_unready_answers_and_closes_its_connections(binary: Built) -> None:
    client = Client(binary)
    client.serving.is_ready = False
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/models/delays/ready").status_code == 503
    answer = client.infer(json={"inputs": tensors(binary, [0])})
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


def test_failures_are_counted_by_kind_and_code(strict: Built) -> None:
    client = Client(strict)
    good = tensors(strict, [0])
    client.infer(json={"inputs": good})
    client.infer(content=b"{")
    client.infer(content=b" " * 9_000_000)
    client.infer(json={"inputs": good[1:]})
    client.infer(json={"inputs": [{**each, "data": [None]} for each in good]})
    client.infer(json={"inputs": [{**e, "data": ["ZZ"]} if e["name"] == "carrier" else e for e in good]})
    client.request("POST", "/v2/models/other/infer", json={})
    kinds = ["malformed", "too_large", "schema", "missing_value", "unknown_category", "not_found"]
    assert [client.metric("coalmine_failures_total", kind=kind) for kind in kinds] == [1] * 6
    assert client.metric("coalmine_failures_total", kind="model") == 0
    codes = {"200": 1, "400": 4, "413": 1, "404": 1}
    assert {code: client.metric("coalmine_requests_total", code=code) for code in codes} == codes
    assert client.metric("coalmine_request_duration_seconds_count") == 7


def test_scores_and_rows_are_counted_by_row(binary: Built) -> None:
    client = Client(binary)
    probabilities = client.infer(json={"inputs": tensors(binary, [0, 1, 2])}).json()["outputs"][1]["data"]
    client.infer(content=b"{")
    assert client.metric("coalmine_rows_total") == 3
    assert client.metric("coalmine_score_count") == 3
    assert client.metric("coalmine_score_sum") == pytest.approx(sum(probabilities))
    below = sum(each <= 0.5 for each in probabilities)
    assert client.metric("coalmine_score_bucket", le="0.5") == below
    assert client.metric("coalmine_in_flight") == 0


@pytest.mark.parametrize(
    ("audience", "about"),
    [
        ("users", {}),
        ("users", {"headers": {"x-coalmine-slot": "purple"}}),
        ("copies", {"copy": True}),
        ("testers", {"headers": {"X-Coalmine-Slot": "green"}}),
        ("testers", {"headers": {"x-coalmine-slot": "blue"}, "copy": True}),
    ],
    ids=["a user", "names no slot", "a copy", "a tester", "a tester's copy"],
)
def test_requests_are_counted_by_who_asked(audience: str, about: dict[str, Any], binary: Built) -> None:
    client = Client(binary)
    client.infer(json={"inputs": tensors(binary, [0])}, **about)
    client.infer(content=b"{", **about)
    for each in ("users", "copies", "testers"):
        counted = 1 if each == audience else 0
        assert client.metric("coalmine_requests_total", audience=each, code="200") == counted
        assert client.metric("coalmine_failures_total", audience=each, kind="malformed") == counted
        assert client.metric("coalmine_request_duration_seconds_count", audience=each) == 2 * counted


def test_scores_are_those_of_users_and_copies_and_not_of_testers(binary: Built) -> None:
    client = Client(binary)
    asked = {"json": {"inputs": tensors(binary, [0, 1])}}
    client.infer(**asked)
    client.infer(**asked, copy=True)
    client.infer(**asked, headers={"x-coalmine-slot": "green"})
    assert client.metric("coalmine_score_count") == 4
    assert client.metric("coalmine_rows_total") == 6


def test_the_score_of_a_regression_is_its_prediction(regression: Built) -> None:
    client = Client(regression)
    (prediction,) = client.infer(json={"inputs": tensors(regression, [0])}).json()["outputs"][0]["data"]
    assert 200 < prediction <= 500
    assert client.metric("coalmine_score_bucket", le="200.0") == 0
    assert client.metric("coalmine_score_bucket", le="500.0") == 1


def test_health_checks_and_scrapes_are_not_counted_as_requests(binary: Built) -> None:
    client = Client(binary)
    client.get("/v2/health/ready")
    client.get("/metrics")
    assert client.metric("coalmine_requests_total", code="200") == 0


def test_the_newest_predictions_are_given_by_id_from_a_place_on(binary: Built) -> None:
    client = Client(binary)
    for name in "abc":
        client.infer(json={"id": name, "inputs": tensors(binary, [0])})
    first = client.get("/served?after=1").json()
    assert [each["id"] for each in first["served"]] == ["b", "c"]
    assert first["next"] == 3
    again = client.get(f"/served?after={first['next']}").json()
    assert again == {"epoch": first["epoch"], "next": 3, "served": []}
    assert Client(binary).get("/served").json()["epoch"] != first["epoch"]


@pytest.mark.parametrize("after", ["", "-1", "x", "9" * 30, "%C2%B2"])
def test_a_place_that_is_none_is_refused(after: str, binary: Built) -> None:
    assert Client(binary).get(f"/served?after={after}").status_code == 400


def test_it_says_since_when_it_counts(binary: Built) -> None:
    assert abs(Client(binary).metric("coalmine_started_seconds") - time.time()) < 60
