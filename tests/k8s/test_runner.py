"""The component `runner`: a pod that the API server takes, in an environment that coalmine wrote, with
arguments that `coalmine` understands and variables that the environment's settings hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from coalmine.cli import app
from coalmine.cluster.lease import Terms
from coalmine.journals.runner_lock import LeaseRunnerLock
from coalmine.operations.doctor_cluster import _RUNNER_PODS
from coalmine.operations.runner import ENDS_WITHIN_S
from tests.k8s.environments import ENVIRONMENT, REMOTES, Json, Repository, builder, new_repository
from tests.k8s.validation import faults


@pytest.fixture
def environment(tmp_path: Path) -> Repository:
    builder()
    there = new_repository(tmp_path, "gateway_api")
    there.add_component("runner", "kustomization.yaml")
    image = {"name": "pipelines", "newName": "registry.example.com/pipelines"}
    there.edit("kustomization.yaml", lambda content: content.update(images=[image]))
    return there


@pytest.fixture
def deployment(environment: Repository) -> Json:
    return environment.build().one("Deployment", "coalmine-runner")


def containers(deployment: Json) -> list[Json]:
    pod = deployment["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def test_it_is_one_that_its_kind_allows_and_that_doctor_knows(deployment: Json) -> None:
    assert faults(deployment) == []
    assert _RUNNER_PODS.items() <= deployment["metadata"]["labels"].items()


def test_it_asks_for_the_accounts_token_and_no_other_right(deployment: Json) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "coalmine-runner"
    assert pod["automountServiceAccountToken"] is True
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for container in containers(deployment):
        assert container["image"] == "registry.example.com/pipelines"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/srv", "/tmp"]


def test_it_is_alone_and_has_the_time_that_its_end_takes(deployment: Json) -> None:
    spec = deployment["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > ENDS_WITHIN_S
    (_, runner) = containers(deployment)
    # A predecessor that was killed holds its Lease for a while, and this one answers nobody until then.
    probe = runner["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] > 2 * Terms().lasts_s
    assert deployment["metadata"]["name"] == LeaseRunnerLock.NAME


def test_each_command_understands_its_arguments(environment: Repository, deployment: Json) -> None:
    settings = yaml.safe_load((environment.folder / "settings.yaml").read_text())["data"]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parsed = []
    for container in containers(deployment):
        program, verb = container["command"]
        assert program == "coalmine"
        words = [re.sub(r"\$\((\w+)\)", lambda found: settings[found[1]], each) for each in container["args"]]
        parsed.append(group.commands[verb].make_context(verb, words).params)
    clone, runner = parsed
    assert (clone["url"], clone["branch"], clone["into"]) == (
        REMOTES.git,
        REMOTES.branch,
        Path("/srv/repository"),
    )
    assert runner["environment"] == ENVIRONMENT
    (_, container) = containers(deployment)
    assert container["workingDir"] == str(clone["into"])
    (port,) = container["ports"]
    marks = deployment["spec"]["template"]["metadata"]["annotations"]
    assert (runner["metrics_host"], str(runner["metrics_port"])) == ("0.0.0.0", marks["prometheus.io/port"])
    assert port["containerPort"] == runner["metrics_port"]
