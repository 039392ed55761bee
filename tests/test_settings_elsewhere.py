"""What a pod finds in its environment in place of what coalmine.yaml and a kubeconfig say elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.config import kube_config

from coalmine.cluster.client import Cluster
from coalmine.errors import InputError, MachineUnready
from coalmine.settings import PROMETHEUS_URL, Environment

ON_A_CLUSTER = Environment.model_validate(
    {
        "reconciler": "apply",
        "router": "istio",
        "telemetry": "prometheus",
        "prometheus": {"url": "http://127.0.0.1:9090", "tenant": "shop"},
        "kubernetes": {"namespace": "models", "context": "production"},
    }
)


def test_a_pod_reaches_the_same_prometheus_by_a_url_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROMETHEUS_URL, raising=False)
    assert ON_A_CLUSTER.as_reached_from_here() == ON_A_CLUSTER
    monkeypatch.setenv(PROMETHEUS_URL, "http://prometheus.monitoring:9090")
    there = ON_A_CLUSTER.as_reached_from_here()
    assert there.prometheus is not None
    assert (there.prometheus.url, there.prometheus.tenant) == ("http://prometheus.monitoring:9090", "shop")
    assert there.kubernetes == ON_A_CLUSTER.kubernetes
    here = Environment()
    assert here.as_reached_from_here() == here  # no Prometheus is asked there


def test_what_is_no_url_is_said_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROMETHEUS_URL, "prometheus:9090")
    with pytest.raises(InputError, match=f"{PROMETHEUS_URL} cannot stand for"):
        ON_A_CLUSTER.as_reached_from_here()


def test_a_token_goes_nowhere_in_plain_words_because_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROMETHEUS_URL, "http://prometheus.monitoring:9090")
    prometheus = {"url": "https://prometheus.example.com", "token_env": "TOKEN"}
    secret = Environment.model_validate({**ON_A_CLUSTER.model_dump(), "prometheus": prometheus})
    with pytest.raises(InputError, match="for everybody to read"):
        secret.as_reached_from_here()


@pytest.fixture
def in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a kubeconfig would be."""
    file = tmp_path / "kubeconfig"
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")

    def load(client_configuration: client.Configuration) -> None:
        client_configuration.host = "https://192.0.2.1"

    monkeypatch.setattr(config, "load_incluster_config", load)
    return file


@pytest.mark.usefixtures("in_a_pod")
def test_a_pod_without_kubeconfig_is_its_own_account_whatever_context_people_use() -> None:
    assert Cluster.connect("models", "production").server == "https://192.0.2.1"


def test_a_pod_with_a_kubeconfig_goes_by_that(in_a_pod: Path) -> None:
    in_a_pod.write_text("apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n")
    with pytest.raises(MachineUnready, match="the context production"):
        Cluster.connect("models", "production")


@pytest.mark.usefixtures("in_a_pod")
def test_a_machine_without_either_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(MachineUnready, match="No cluster can be reached"):
        Cluster.connect("models")
