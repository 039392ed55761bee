"""Retraining in Prefect's Kubernetes work pool: the worker is a pod, and so is each run, whose code and data
come in its init steps.

Prefect's server, Git and the DVC remote are on this machine. The cluster must hold the image
`coalmine.test/pipelines:1`: `python -m tests.cluster.image ARCHIVE pipelines`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from coalmine.cluster.client import Cluster
from coalmine.slots import slots_path
from tests.cluster.file_server import serving_files
from tests.cluster.forwarding import forwarded
from tests.cluster.image import PIPELINES_REFERENCE
from tests.cluster.kubectl import kubectl
from tests.cluster.routed import eventually
from tests.cluster.shop import (
    ENVIRONMENT,
    LONG_BAKE,
    PROMETHEUS_URL,
    ROLLED_BACK,
    Shop,
    change,
    opened,
    reachable_host,
)
from tests.ports import reserved_port
from tests.scenarios.lending import LINEAR, MODEL_YAML, TREES
from tests.scenarios.workplace import MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

BUSY_FOR_S = 30.0
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


@dataclass(frozen=True)
class Office:
    """A shop whose models are retrained in `namespace`, and the Prefect API as any program sees it."""

    shop: Shop
    namespace: str
    api: httpx.Client

    def ask(self, deployment: str, **parameters: object) -> str:
        """Start a run; its id."""
        found = self._answer("GET", f"deployments/name/{deployment}")
        body = {"parameters": parameters}
        return str(self._answer("POST", f"deployments/{found['id']}/create_flow_run", json=body)["id"])

    def state(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = self._answer("GET", f"flow_runs/{run}")["state"]
        return state

    def await_end(self, run: str, within_s: float) -> dict[str, Any]:
        """Its last state; every state on the way is printed."""
        begun_s, seen = time.monotonic(), ""

        def is_final() -> bool:
            nonlocal seen
            if (name := self.state(run)["name"]) != seen:
                seen = name
                print(f"{time.monotonic() - begun_s:6.1f} s {name}")
            return self.state(run)["type"] in FINAL

        eventually(is_final, f"run {run} ends", within_s)
        return self.state(run)

    def log(self, run: str) -> list[str]:
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        return [each["message"] for each in self._answer("POST", "logs/filter", json=wanted)]

    def pods(self) -> list[dict[str, Any]]:
        """Of runs."""
        words = ["get", "pods", "-l", "app.kubernetes.io/component=training", "-o", "json"]
        pods: list[dict[str, Any]] = json.loads(kubectl("-n", self.namespace, *words))["items"]
        return pods

    def pushed(self, path: Path | str) -> str:
        self.shop.work.git("fetch", "-q")
        return self.shop.work.git("show", f"origin/main:{path}")

    def _answer(self, method: str, path: str, **request: Any) -> Any:
        """Prefect's server says 503 while its database is at work; its own clients ask again, too."""
        until_s = time.monotonic() + BUSY_FOR_S
        while (answer := self.api.request(method, path, **request)).status_code == 503:
            assert time.monotonic() < until_s, answer.text
            time.sleep(1)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture
def office(released: Path, tmp_path: Path, cluster: Cluster) -> Iterator[Office]:
    """1.0.0 serves, 1.2.0 was turned away, a better model's code is pushed, and the worker is ready."""
    host, namespace = reachable_host(cluster), f"{cluster.namespace}-training"
    with (
        opened(released, tmp_path, cluster, "gateway_api") as shop,
        forwarded(PROMETHEUS_URL, host) as prometheus,
        serving_files(shop.work.top / ".coalmine/remotes/dvc", host) as dvc,
        serving_prefect(tmp_path / "prefect", host) as prefect,
    ):
        shop.deliver("1.0.0")
        with shop.users() as users:
            users.await_requests(200)
            shop.deliver("1.2.0", status=ROLLED_BACK)  # so 1.1.0 is whom the next one must beat
        shop.plan(LONG_BAKE)
        shop.work.edit(MODEL_YAML, LINEAR, TREES.replace("10", "12"))
        shop.work.edit(MODEL_YAML, "split:\n  rows: complete #", "split: #")
        shop.work.dvc("remote", "add", "--default", "--force", "shared", dvc)
        words = ["--environment", ENVIRONMENT, "--namespace", namespace, "--prefect-url", f"{prefect}/api"]
        shop.work.run("new", "training", *words)
        edit(shop, dvc, prometheus)
        shop.work.git("add", "--all", "k8s")
        shop.work.commit("Models are retrained in the cluster")
        shop.work.git("push", "-q")
        try:
            kubectl("apply", "-k", str(shop.work.top / "k8s/training/access"))
            kubectl("apply", "-k", str(shop.work.top / "k8s/training"))
            began_s = time.monotonic()
            words = ["rollout", "status", "deployment/coalmine-worker", "--timeout=240s"]
            kubectl("-n", namespace, *words)
            print(f"the worker is ready after {time.monotonic() - began_s:.1f} s")
            with httpx.Client(base_url=f"{prefect}/api/", timeout=30) as api:
                yield Office(shop, namespace, api)
        finally:
            print(kubectl("-n", namespace, "get", "pods,jobs", "-o", "wide"))
            print(kubectl("-n", namespace, "logs", "deployment/coalmine-worker", "--tail=40"))
            kubectl("delete", "namespace", namespace, "--wait=false")


def edit(shop: Shop, dvc: str, prometheus: str) -> None:
    """As a person does: the image, what this machine's addresses are for pods, and runs for a small node."""
    place = shop.work.top / "k8s/training"
    name, _, tag = PIPELINES_REFERENCE.rpartition(":")
    change(
        place / "kustomization.yaml",
        lambda content: content.update(images=[{"name": "pipelines", "newName": name, "newTag": tag}]),
    )
    git = shop.work.git("remote", "get-url", "origin")
    change(
        place / "settings.yaml",
        lambda content: content["data"].update(
            GIT_URL=git, DVC_REMOTE=dvc, COALMINE_PROMETHEUS_URL=prometheus
        ),
    )
    change(
        place / "job.yaml",
        lambda content: content["variables"]["properties"]["cpu"].update(default="100m"),
    )


@contextmanager
def serving_prefect(home: Path, host: str) -> Iterator[str]:
    """A server of Prefect at `host`; its URL."""
    port = reserved_port()
    url = f"http://{host}:{port}"
    env = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_up() -> bool:
        try:
            return httpx.get(f"{url}/api/health").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(is_up, "Prefect's server answers", 120)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def test_a_run_in_the_work_pool_ends_in_a_promoted_model(office: Office) -> None:
    with office.shop.users() as users:
        run = office.ask("retrain-and-deliver/retrain-and-deliver", model=MODEL, asked_by="Ada")
        ended = office.await_end(run, 420)
    print("\n".join(office.log(run)))
    assert ended["name"] == "Promoted", ended
    assert office.shop.pushed_stable() == "1.3.0"
    assert not users.failures
    manifest = yaml.safe_load(office.pushed(f"models/{MODEL}/manifest.yaml"))
    assert manifest["trigger"] == {"kind": "person", "who": "Ada", "proof": "claimed", "run": run}
    (pod,) = office.pods()
    steps = {each["name"]: each["state"] for each in pod["status"]["initContainerStatuses"]}
    assert {name: state["terminated"]["exitCode"] for name, state in steps.items()} == {"code": 0, "data": 0}


def test_a_pod_that_is_killed_amid_its_rollout_leaves_it_to_the_runner(office: Office) -> None:
    runner = office.shop.work.start("runner", "--environment", ENVIRONMENT)
    try:
        with office.shop.users() as users:
            run = office.ask("retrain-and-deliver/retrain-and-deliver", model=MODEL)
            users.await_version("1.3.0", within_s=300)
            (pod,) = office.pods()
            words = ["delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0"]
            kubectl("-n", office.namespace, *words)
            killed_s = time.monotonic()
            assert office.await_end(run, 120)["name"] == "Crashed"
            print(f"the run has crashed {time.monotonic() - killed_s:.1f} s after its pod was killed")
            eventually(lambda: office.shop.pushed_stable() == "1.3.0", "1.3.0 is promoted", 150)
            print(f"1.3.0 is promoted {time.monotonic() - killed_s:.1f} s after it")
        assert not users.failures
    finally:
        runner.terminate()
        runner.communicate(timeout=30)


def test_a_run_whose_job_is_deleted_takes_its_users_back(office: Office) -> None:
    with office.shop.users() as users:
        run = office.ask("retrain-and-deliver/retrain-and-deliver", model=MODEL)
        users.await_version("1.3.0", within_s=300)
        words = ["delete", "jobs", "-l", "app.kubernetes.io/component=training", "--wait=false"]
        kubectl("-n", office.namespace, *words)
        deleted_s = time.monotonic()
        slots = slots_path(ENVIRONMENT, MODEL)
        eventually(lambda: yaml.safe_load(office.pushed(slots))["candidate"] is None, "Git says so", 60)
        print(f"it is over {time.monotonic() - deleted_s:.1f} s after its Job was deleted")
        office.await_end(run, 120)
    print("\n".join(office.log(run)))
    assert office.shop.pushed_stable() == "1.0.0"
    assert not users.failures
