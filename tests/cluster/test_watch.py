"""What stands on a real API server against what Git has: its defaults and spellings are no difference, and
another hand is. No pod needs to start for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE
from coalmine.drift.findings import Aspect, Kind
from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.reconcilers.kustomize import build
from tests.cluster.test_objects import in_namespace, require_kinds
from tests.operations.test_watch_on_a_cluster import ENVIRONMENT, GREEN, MODEL, Place, place  # noqa: F401

NO_POD_STARTS = {Kind.SERVER_DOWN, Kind.UNREADABLE}  # nor is there a Gateway that takes the route


@pytest.fixture
def brought(place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Place:  # noqa: F811
    """What Git has is applied."""
    objects = in_namespace(
        cluster, build(place.workspace.top, Path("k8s/environments") / ENVIRONMENT, "here")
    )
    require_kinds(cluster, objects)
    for body in objects:
        cluster.apply(body, cluster.kind(body["apiVersion"], body["kind"]).plural)
    monkeypatch.setattr(ClusterEnvironment, "cluster", cluster)
    monkeypatch.setattr(ClusterEnvironment, "flux", lambda _: None)
    return place


def found(place: Place) -> dict[Kind, str]:  # noqa: F811
    """But for what lacks pods."""
    findings = [each.finding for each in place.watch.once().findings]
    return {each.kind: each.seen for each in findings if each.kind not in NO_POD_STARTS}


def test_what_git_has_stands_as_git_has_it_and_each_hand_on_it_is_found(
    brought: Place, cluster: Cluster
) -> None:
    assert found(brought) == {}
    cluster.merge(DEPLOYMENT, GREEN, {"spec": {"replicas": 5}})
    assert found(brought) == {Kind.REPLICAS: "5"}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": GREEN}
    scaler = {"metadata": {"name": GREEN}, "spec": {"maxReplicas": 9, "scaleTargetRef": target}}
    cluster.create(
        AUTOSCALER, {"apiVersion": AUTOSCALER.api_version, "kind": "HorizontalPodAutoscaler", **scaler}
    )
    assert found(brought) == {}
    live = cluster.get(DEPLOYMENT, GREEN)
    assert live is not None
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "mine:latest"
    cluster.replace(DEPLOYMENT, live)
    assert found(brought) == {Kind.IMAGE: "mine:latest"}
    cluster.merge(CONFIG_MAP, GREEN, {"data": {"manifest.yaml": "mine"}})
    assert found(brought) == {Kind.IMAGE: "mine:latest", Kind.CONFIGURATION: "mine"}
    cluster.delete(HTTP_ROUTE, f"{MODEL}-route")
    assert Kind.ROUTE_MISSING in found(brought)


def test_what_was_seen_is_kept_in_the_environments_config_map(brought: Place, cluster: Cluster) -> None:
    first = brought.watch.once()
    again = brought.watch.once()
    assert {each.since_s for each in again.findings} == {each.since_s for each in first.findings}
    kept = cluster.get(CONFIG_MAP, "coalmine-watch")
    assert kept is not None
    assert str(Aspect.ROUTE) in kept["data"]["watched.json"]
