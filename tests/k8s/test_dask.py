"""The component `dask`: pods that the API server takes, programs that understand their arguments, and a
network in which nobody but a training pod has its code run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

from tests.k8s.environments import builder
from tests.k8s.validation import faults

Json = dict[str, Any]

COMPONENT = Path(__file__).parents[2] / "k8s/components/dask"
TRAINING = {"app.kubernetes.io/component": "training", "app.kubernetes.io/part-of": "coalmine"}
SERVER = {"app.kubernetes.io/component": "model-server", "app.kubernetes.io/part-of": "coalmine"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """As built into a namespace whose folder lies beside the component's."""
    top = tmp_path_factory.mktemp("k8s")
    (top / "dask").symlink_to(COMPONENT)
    folder = top / "training"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: training\n"
        "components: [../dask]\nimages: [{name: pipelines, newName: registry.example.com/pipelines}]\n"
    )
    done = subprocess.run([*builder(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pods(objects: list[Json]) -> dict[str, Json]:
    return {
        each["metadata"]["name"]: each["spec"]["template"] for each in objects if each["kind"] == "Deployment"
    }


def test_every_object_is_one_that_its_kind_allows(objects):
    assert len(objects) == 5
    assert [fault for each in objects for fault in faults(each)] == []
    assert {each["metadata"]["namespace"] for each in objects} == {"training"}


def test_pods_ask_for_no_rights_and_write_to_their_own_volume_alone(objects):
    for pod in pods(objects).values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == "registry.example.com/pipelines"
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


@pytest.mark.parametrize(
    ("name", "program"),
    [("dask-scheduler", dask_scheduler.main), ("dask-worker", dask_worker.main)],
    ids=["scheduler", "worker"],
)
def test_each_program_understands_its_arguments(objects, name, program):
    (container,) = pods(objects)[name]["spec"]["containers"]
    assert container["command"] == ["dask", name.removeprefix("dask-")]
    given = [word.replace("$(MEMORY_BYTES)", "2147483648") for word in container["args"]]
    context = program.make_context(name, given)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if name == "dask-scheduler":
        assert context.params["port"] == str(ports["scheduler"])
    else:
        assert (context.params["worker_port"], context.params["nanny_port"]) == (
            str(ports["worker"]),
            str(ports["nanny"]),
        )
        assert context.params["nthreads"] == 1
        assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]


def test_workers_find_the_scheduler_by_its_service(objects):
    (service,) = [each for each in objects if each["kind"] == "Service"]
    (port,) = service["spec"]["ports"]
    (container,) = pods(objects)["dask-worker"]["spec"]["containers"]
    assert container["args"][0] == f"tcp://{service['metadata']['name']}:{port['port']}"
    assert matches(service["spec"]["selector"], labels(objects, "dask-scheduler"))
    assert not matches(service["spec"]["selector"], labels(objects, "dask-worker"))


def labels(objects: list[Json], name: str) -> Json:
    return pods(objects)[name]["metadata"]["labels"]


def matches(selector: Json, there: Json) -> bool:
    return all(there.get(key) == value for key, value in selector.items())


def selected(selector: Json, there: Json) -> bool:
    expressions = selector.get("matchExpressions", [])
    return matches(selector.get("matchLabels", {}), there) and all(
        there.get(each["key"]) in each["values"] for each in expressions
    )


@pytest.mark.parametrize(
    ("who", "scheduler", "worker"),
    [
        (TRAINING, True, False),
        (SERVER, False, False),
        ({}, False, False),
        ({"app.kubernetes.io/component": "training"}, False, False),
        ("dask-worker", True, True),
        ("dask-scheduler", False, True),
    ],
    ids=["a training pod", "a model server", "anybody", "a stranger's", "a worker", "the scheduler"],
)
def test_only_training_pods_and_the_cluster_itself_are_let_in(objects, who, scheduler, worker):
    there = labels(objects, who) if isinstance(who, str) else who
    policies = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]
    for name, allowed in (("dask-scheduler", scheduler), ("dask-worker", worker)):
        (policy,) = [each for each in policies if selected(each["podSelector"], labels(objects, name))]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        peers = [peer for rule in policy["ingress"] for peer in rule["from"]]
        assert all(set(peer) == {"podSelector"} for peer in peers)  # no other namespace, no address
        assert any(selected(peer["podSelector"], there) for peer in peers) is allowed


def test_workers_reach_nobody_but_one_another(objects):
    """What they run may be anything: it carries no data away."""
    for policy in (each["spec"] for each in objects if each["kind"] == "NetworkPolicy"):
        for rule in policy["egress"]:
            peers = rule.get("to", [])
            assert peers or {port["port"] for port in rule["ports"]} == {53}
            for peer in peers:
                assert set(peer) == {"podSelector"}
                assert not selected(peer["podSelector"], TRAINING)
