"""The runner as a pod, by the component `runner` and the image that people build: a delivery hands its
rollout over, and the next pod goes on with what a killed one left.

The cluster must hold the image `coalmine.test/pipelines:1`:
`python -m tests.cluster.image ARCHIVE pipelines`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import POD
from tests.cluster.forwarding import forwarded
from tests.cluster.image import PIPELINES_REFERENCE
from tests.cluster.routed import eventually
from tests.cluster.shop import ENVIRONMENT, PROMETHEUS_URL, Shop, change, opened, reachable_host
from tests.scenarios.workplace import MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

GOES_ON_WITHIN_S = 60.0
# Long enough for a pod to be killed within, and for the next one to see the rest of it.
PLAN = """rollout:
  stages: [30, 60]
  bake_s: 20
  poll_s: 2
  no_data_budget_s: 120
  gates:
    - {gate: errors, margin: 0.1}
"""
GOES_ON = "is unfinished: it goes on."  # whoever drives what a delivery began
RUNNER = {"app.kubernetes.io/component": "runner"}


@pytest.fixture
def shop(released: Path, tmp_path: Path, cluster: Cluster) -> Iterator[Shop]:
    """1.0.0 serves, and a pod drives rollouts."""
    with (
        forwarded(PROMETHEUS_URL, reachable_host(cluster)) as prometheus,
        opened(released, tmp_path, cluster, "gateway_api") as shop,
    ):
        _add_runner(shop, prometheus)
        shop.plan(PLAN)
        shop.work.git("push", "-q")
        shop.deliver("1.0.0")
        eventually(lambda: bool(_ready_runner(cluster)), "the runner's pod is ready", within_s=90)
        yield shop


def _add_runner(shop: Shop, prometheus: str) -> None:
    """As a person does, in the environment's folder."""
    place = shop.work.top / "k8s/environments" / ENVIRONMENT
    name, _, tag = PIPELINES_REFERENCE.rpartition(":")
    image = {"name": "pipelines", "newName": name, "newTag": tag}
    change(
        place / "kustomization.yaml",
        lambda content: content.update(components=["../../components/runner"], images=[image]),
    )
    change(
        place / "settings.yaml",
        lambda content: content["data"].update(COALMINE_PROMETHEUS_URL=prometheus),
    )
    shop.work.commit("A pod drives the rollouts")


def _ready_runner(cluster: Cluster) -> str | None:
    for pod in cluster.list(POD, RUNNER):
        ready = [each["status"] for each in pod["status"].get("conditions", []) if each["type"] == "Ready"]
        if ready == ["True"] and "deletionTimestamp" not in pod["metadata"]:
            return str(pod["metadata"]["name"])
    return None


def _kubectl(cluster: Cluster, *words: str) -> str:
    command = ["kubectl", "-n", cluster.namespace, *words]
    return subprocess.run(command, text=True, check=True, capture_output=True).stdout


def _said(cluster: Cluster) -> str:
    """By the runner's pod."""
    return _kubectl(cluster, "logs", "deployment/coalmine-runner", "--all-containers", "--tail=50")


def _pushed_stable(shop: Shop) -> str:
    shop.work.git("fetch", "-q")
    text = shop.work.git("show", f"origin/main:k8s/environments/{ENVIRONMENT}/{MODEL}/slots.yaml")
    content = yaml.safe_load(text)
    return str(content["releases"][content["stable"]]["version"])


def test_a_killed_pods_successor_goes_on_with_the_rollout_until_it_is_promoted(shop: Shop) -> None:
    cluster = shop.cluster
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        users.await_version("1.1.0")
        assert GOES_ON in _said(cluster)
        delivery.kill()  # it would drive the rollout itself
        first = _ready_runner(cluster)
        assert first is not None
        _kubectl(cluster, "delete", "pod", first, "--force", "--grace-period=0")
        killed_s = time.monotonic()
        eventually(lambda: _ready_runner(cluster), "another pod is ready", GOES_ON_WITHIN_S)
        assert _ready_runner(cluster) != first
        print(f"another pod is ready after {time.monotonic() - killed_s:.1f} s")
        eventually(lambda: GOES_ON in _said(cluster), "it goes on", GOES_ON_WITHIN_S)
        goes_on_after_s = time.monotonic() - killed_s
        print(f"it goes on after {goes_on_after_s:.1f} s")
        eventually(lambda: _pushed_stable(shop) == "1.1.0", "1.1.0 is promoted", 120)
        print(f"1.1.0 is promoted after {time.monotonic() - killed_s:.1f} s", dict(users.answers))
        print(_said(cluster))
    assert goes_on_after_s < GOES_ON_WITHIN_S
    assert not users.failures
