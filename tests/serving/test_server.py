"""The server as a process: its port, its refusals, its end."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from coalmine.spec import Task
from tests.serving.releases import Built, build, expected, tensors
from tests.serving.server_process import Server, running, started

INFER = "/v2/models/delays/infer"


@pytest.fixture(scope="module")
def server(binary: Built) -> Iterator[Server]:
    with running(binary.folder) as server:
        yield server


def test_it_says_what_it_serves_and_where(server: Server) -> None:
    assert server.announcement == f"delays 1.2.0 serves in slot blue at http://127.0.0.1:{server.port}"


def test_it_answers_what_was_evaluated_and_takes_the_label(server: Server, binary: Built) -> None:
    answer = httpx.post(server.url + INFER, json={"id": "a", "inputs": tensors(binary, [0, 1])})
    assert {each["name"]: each["data"] for each in answer.json()["outputs"]} == expected(binary, [0, 1])
    assert answer.headers["x-coalmine-slot"] == "blue"
    label = {"id": "a", "label": [True, False]}
    assert httpx.post(f"{server.url}/v2/models/delays/feedback", json=label).json()["joined"] == 1


def test_a_body_that_is_too_large_is_refused_while_it_is_sent(server: Server) -> None:
    chunks = (b" " * 2**20 for _ in range(9))
    answer = httpx.post(server.url + INFER, content=chunks, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_port_in_use_is_told_in_one_line_with_the_status_of_an_unready_machine(
    server: Server, binary: Built
) -> None:
    with started(binary.folder, port=server.port) as second:
        status, said = second.end()
    assert status == 3
    assert said.count("\n") == 1
    assert f"port {server.port} of 127.0.0.1 is in use" in said
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


def test_what_comes_to_the_port_for_copies_is_counted_as_copies(binary: Built) -> None:
    port = _free_port()
    with running(binary.folder, "--copies-port", str(port)) as server:
        for url in (server.url, f"http://127.0.0.1:{port}"):
            answer = httpx.post(url + INFER, json={"id": "a", "inputs": tensors(binary, [0, 1])})
            assert {each["name"]: each["data"] for each in answer.json()["outputs"]} == expected(
                binary, [0, 1]
            )
        metrics = httpx.get(f"{server.url}/metrics").text
        for audience in ("users", "copies"):
            assert f'audience="{audience}",code="200",model_name="delays",model_version="1.2.0",' in metrics
            (line,) = [
                x for x in metrics.splitlines() if f'requests_total{{audience="{audience}",code="200"' in x
            ]
            assert line.endswith(" 1.0")
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.end()[0] == 0


def test_a_port_for_copies_that_is_in_use_is_told_by_its_option(server: Server, binary: Built) -> None:
    with started(binary.folder, "--copies-port", str(server.port)) as second:
        status, said = second.end()
    assert (status, said.count("\n")) == (3, 1)
    assert "choose another --copies-port" in said


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none_is_refused(port: str, binary: Built) -> None:
    with started(binary.folder, port=int(port)) as server:
        status, said = server.end()
    assert status == 2
    assert f"--port {port} is no port" in said


def test_nobody_connects_before_the_release_is_checked(own_binary: Built) -> None:
    manifest = own_binary.folder / "manifest.yaml"
    text = manifest.read_text(encoding="utf-8")
    manifest.unlink()
    os.mkfifo(manifest)
    port = _free_port()
    with started(own_binary.folder, port=port) as server:
        with manifest.open("w", encoding="utf-8") as writer:  # once the server waits for its manifest
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
            writer.write(text.replace("probability: 0", "probability: 5"))
        status, said = server.end()
    assert status == 6
    assert said.count("\n") == 1
    assert "does not answer its manifest's example" in said


STEPS = """
import time

from sklearn.base import BaseEstimator, TransformerMixin


class Wait(TransformerMixin, BaseEstimator):
    def fit(self, rows, target):
        return self

    def transform(self, rows):
        time.sleep(rows["wait_s"].max())
        return rows

    def __sklearn_is_fitted__(self):
        return True
"""


def test_what_is_in_flight_at_sigterm_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the transformer comes from the release's own code, which nothing else could import."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "steps_of_this_release.py").write_text(STEPS, encoding="utf-8")
    monkeypatch.syspath_prepend(source)
    wait = importlib.import_module("steps_of_this_release").Wait()
    rows = pd.DataFrame({"wait_s": [0.0, 0.001, 0.002]})
    built = build(
        tmp_path / "release", make_pipeline(wait, LinearRegression()), rows, [0.0, 1.0, 2.0], Task.REGRESSION
    )
    (source / "steps_of_this_release.py").rename(built.folder / "code" / "steps_of_this_release.py")

    answers = []
    with running(built.folder, "--drain-s", "0.1") as server, httpx.Client(timeout=60) as client:
        body = {"inputs": [{"name": "wait_s", "shape": [1], "datatype": "FP64", "data": [2.0]}]}
        asking = threading.Thread(target=lambda: answers.append(client.post(server.url + INFER, json=body)))
        asking.start()
        while 'coalmine_in_flight{model_name="delays",model_version="1.2.0",slot="blue"} 1.0' not in _get(
            server, "/metrics"
        ):
            assert asking.is_alive()
        server.process.send_signal(signal.SIGTERM)
        asking.join()
        assert server.end() == (0, "")
    assert [answer.status_code for answer in answers] == [200]


def test_sigterm_under_load_loses_nothing(binary: Built) -> None:
    """Users come as through a balancer: until the server is unready."""
    body = {"inputs": tensors(binary, [1])}
    answers: list[int] = []
    losses: list[Exception] = []
    leaves = threading.Event()

    def use(url: str) -> None:
        with httpx.Client(timeout=60) as client:
            while not leaves.is_set():
                try:
                    answers.append(client.post(url + INFER, json=body).status_code)
                    if client.get(f"{url}/v2/health/ready").status_code == 503:
                        leaves.set()
                except httpx.HTTPError as error:
                    losses.append(error)
                    return

    with running(binary.folder) as server:
        users = [threading.Thread(target=use, args=(server.url,)) for _ in range(4)]
        for user in users:
            user.start()
        while len(answers) < 20 and not losses:
            leaves.wait(0.01)
        server.process.send_signal(signal.SIGTERM)
        for user in users:
            user.join()
        assert server.end() == (0, "")
    assert losses == []
    assert set(answers) == {200}
    assert leaves.is_set()


def _get(server: Server, path: str) -> str:
    return httpx.get(server.url + path).text


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
