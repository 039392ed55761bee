"""Any cluster that KUBECONFIG names (`make test-cluster`). Each test has a namespace of its own, which is
removed after it.

Without a cluster, or without the controller that a test needs, the test is skipped and says why.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from coalmine.cluster.client import Cluster
from tests.cluster.shop import Shop, opened
from tests.scenarios.conftest import _quiet_machine, released  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def any_cluster() -> Cluster:
    """The cluster, in no namespace in particular."""
    # Not by KUBECONFIG alone: whoever has one in the environment did not mean it for tests.
    if not os.environ.get("COALMINE_TEST_CLUSTER"):
        pytest.skip("no cluster asked for: make test-cluster, with KUBECONFIG set")
    return Cluster.connect("default")


@pytest.fixture
def cluster(any_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, in a namespace that nobody else has, whose pods are held to the restricted profile."""
    name = f"coalmine-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core = client.CoreV1Api(any_cluster.api)
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    yield any_cluster.in_namespace(name)
    core.delete_namespace(name)


@pytest.fixture(params=["gateway_api", "istio"])
def shop(request: pytest.FixtureRequest, released: Path, tmp_path: Path, cluster: Cluster) -> Iterator[Shop]:  # noqa: F811
    """1.0.0 serves."""
    with opened(released, tmp_path, cluster, request.param) as shop:
        shop.deliver("1.0.0")
        assert shop.slots == {"stable": "1.0.0", "candidate": None}
        yield shop
