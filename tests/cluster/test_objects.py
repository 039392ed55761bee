"""An API server takes every object that k8s/ makes, and finds nothing to add that would be fought over.

What can be told without one stands in tests/k8s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster, ClusterRefuses
from coalmine.cluster.kinds import POD
from coalmine.errors import CoalmineError, Unsupported
from coalmine.slots import Slots
from tests.k8s.environments import EMPTY, ONE, RECONCILERS, ROUTERS, TWO, Json, Repository, new_repository

STATES = {"empty": EMPTY, "half-filled": ONE, "filled": TWO}
ADDED = ("autoscaling",)


def in_namespace(cluster: Cluster, objects: list[Json]) -> list[Json]:
    """Those that live in a namespace, in the test's own."""
    return [
        {**each, "metadata": {**each["metadata"], "namespace": cluster.namespace}}
        for each in objects
        if each["kind"] != "Namespace"
    ]


def require_kinds(cluster: Cluster, objects: list[Json]) -> None:
    try:
        for each in objects:
            cluster.kind(each["apiVersion"], each["kind"])
    except Unsupported as error:
        pytest.skip(str(error))


def refusals(cluster: Cluster, objects: list[Json]) -> list[str]:
    """Why the API server would not take them, by server-side apply with every check and no change."""
    found = []
    for each in objects:
        try:
            cluster.apply(each, cluster.kind(each["apiVersion"], each["kind"]).plural, dry_run=True)
        except CoalmineError as error:
            found.append(f"{each['kind']} {each['metadata']['name']}: {error}")
    return found


@pytest.fixture(params=ROUTERS)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    """With all components, of each router."""
    repository = new_repository(tmp_path, request.param)
    for name in ADDED:
        repository.add_component(name)
    repository.add_component("network-policy", "kustomization.yaml")
    return repository


@pytest.mark.parametrize("slots", STATES.values(), ids=STATES)
def test_an_api_server_takes_every_object(cluster: Cluster, repository: Repository, slots: Slots) -> None:
    repository.fill(slots)
    objects = in_namespace(cluster, repository.build().objects)
    require_kinds(cluster, objects)
    assert refusals(cluster, objects) == []


@pytest.mark.parametrize("reconciler", RECONCILERS)
@pytest.mark.parametrize("router", ROUTERS)
def test_an_api_server_takes_what_flux_is_told(
    cluster: Cluster, tmp_path: Path, router: str, reconciler: str
) -> None:
    objects = in_namespace(cluster, new_repository(tmp_path, router, reconciler).flux_objects())
    require_kinds(cluster, objects)
    assert len(objects) == (4 if reconciler == "flux" else 0)
    assert refusals(cluster, objects) == []


def test_a_namespace_of_restricted_pods_takes_the_pods(cluster: Cluster, tmp_path: Path) -> None:
    """A Deployment is taken whatever its pods are like: so a pod itself is asked for, and not made."""
    repository = new_repository(tmp_path, "gateway_api")
    repository.fill(TWO)
    for deployment in repository.build().of("Deployment").values():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": deployment["metadata"]["name"], "labels": {"app": "m"}},
            "spec": deployment["spec"]["template"]["spec"],
        }
        assert refusals(cluster, [pod]) == []
        del pod["spec"]["securityContext"]
        with pytest.raises(ClusterRefuses, match="restricted"):
            cluster.apply(pod, POD.plural, dry_run=True)


def test_what_is_applied_again_changes_nothing(cluster: Cluster, repository: Repository) -> None:
    """No default of the API server's is fought over, which Flux would do every ten minutes."""
    repository.fill(TWO)
    objects = in_namespace(cluster, repository.build().objects)
    require_kinds(cluster, objects)
    for each in objects:
        if each["kind"] == "Deployment":
            each["spec"]["replicas"] = 0  # there is no image to pull here
    first = [version(apply(cluster, each)) for each in objects]
    again = [version(apply(cluster, each)) for each in objects]
    assert again == first


def apply(cluster: Cluster, thing: Json) -> Json:
    return cluster.apply(thing, cluster.kind(thing["apiVersion"], thing["kind"]).plural)


def version(thing: Json) -> tuple[str, str]:
    """Of what it asks for; one that has no such version has no controller that writes to it either."""
    metadata = thing["metadata"]
    asked = metadata.get("generation", metadata["resourceVersion"])
    return f"{thing['kind']} {metadata['name']}", str(asked)
