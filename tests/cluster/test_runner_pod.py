"""The runner as a pod, by the component `runner` and the image that people build: a delivery hands its
rollout over, and the next pod goes on with what a killed one left.

The cluster must hold the image `coalmine.test/pipelines:1`:
`python -m tests.cluster.image ARCHIVE pipelines`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import POD
from tests.cluster.forwarding import forwarded
from tests.cluster.image import PIPELINES_REFERENCE
from tests.cluster.kubectl import kubectl
from tests.cluster.routed import eventually
from tests.cluster.shop import ENVIRONMENT, LONG_BAKE, PROMETHEUS_URL, Shop, change, opened, reachable_host

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

GOES_ON_WITHIN_S = 60.0
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
        shop.plan(LONG_BAKE)
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


def _said(cluster: Cluster) -> str:
    """By the runner's pod."""
    return kubectl(
        "-n", cluster.namespace, "logs", "deployment/coalmine-runner", "--all-containers", "--tail=50"
    )


def test_a_killed_pods_successor_goes_on_with_the_rollout_until_it_is_promoted(shop: Shop) -> None:
    cluster = shop.cluster
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        users.await_version("1.1.0")
        assert GOES_ON in _said(cluster)
        delivery.kill()  # it would drive the rollout itself
        delivery.communicate()
        first = _ready_runner(cluster)
        assert first is not None
        kubectl("-n", cluster.namespace, "delete", "pod", first, "--force", "--grace-period=0")
        killed_s = time.monotonic()
        eventually(lambda: _ready_runner(cluster), "another pod is ready", GOES_ON_WITHIN_S)
        assert _ready_runner(cluster) != first
        print(f"another pod is ready after {time.monotonic() - killed_s:.1f} s")
        eventually(lambda: GOES_ON in _said(cluster), "it goes on", GOES_ON_WITHIN_S)
        goes_on_after_s = time.monotonic() - killed_s
        print(f"it goes on after {goes_on_after_s:.1f} s")
        eventually(lambda: shop.pushed_stable() == "1.1.0", "1.1.0 is promoted", 120)
        print(f"1.1.0 is promoted after {time.monotonic() - killed_s:.1f} s", dict(users.answers))
        print(_said(cluster))
    assert goes_on_after_s < GOES_ON_WITHIN_S
    assert not users.failures
