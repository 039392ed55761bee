"""k8s/training as `coalmine new training` writes it and Kustomize builds it: a worker with the rights that
Prefect's takes, and a trainer with those that a delivery takes. Its job.yaml: tests/flows/test_worker.py."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from coalmine.cli import app
from coalmine.scaffold.training import Wanted, new_training
from tests.k8s.environments import ENVIRONMENT, NAMESPACE, REMOTES, Json, builder, new_repository
from tests.k8s.validation import faults

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example.com/pipelines@{DIGEST}"


@dataclass(frozen=True)
class Training:
    top: Path

    def build(self, folder: str = "k8s/training") -> list[Json]:
        command = [*builder(), str(self.top / folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each is not None]

    def deployment(self) -> Json:
        (deployment,) = [each for each in self.build() if each["kind"] == "Deployment"]
        return deployment


def written(top: Path, reconciler: str) -> Training:
    builder()
    new_repository(top, "gateway_api", reconciler)
    new_training(top, Wanted(ENVIRONMENT, "training", "http://prefect:4200/api"), REMOTES)
    file = top / "k8s/training/kustomization.yaml"
    content = yaml.safe_load(file.read_text())
    name, _, digest = IMAGE.partition("@")
    content["images"] = [{"name": "pipelines", "newName": name, "digest": digest}]
    file.write_text(yaml.safe_dump(content))
    return Training(top)


@pytest.fixture(params=["flux", "apply"])
def training(request: pytest.FixtureRequest, tmp_path: Path) -> Training:
    return written(tmp_path, request.param)


def test_every_object_is_one_that_its_kind_allows_and_is_in_its_place(training: Training) -> None:
    objects = training.build()
    assert [fault for each in objects for fault in faults(each)] == []
    assert {each["metadata"]["namespace"] for each in objects} == {"training"}
    assert {each["kind"] for each in objects} == {"ConfigMap", "Deployment", "NetworkPolicy"}


def test_runs_get_the_worker_s_own_image(training: Training) -> None:
    pod = training.deployment()["spec"]["template"]["spec"]
    assert {each["image"] for each in [*pod["initContainers"], *pod["containers"]]} == {IMAGE}
    env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert env["PIPELINES_IMAGE"] == IMAGE


def test_the_worker_is_a_restricted_pod_with_the_account_s_token(training: Training) -> None:
    pod = training.deployment()["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("coalmine-worker", True)
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert all(set(volume["emptyDir"]) == {"sizeLimit"} for volume in pod["volumes"])
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_its_clone_understands_its_arguments(training: Training) -> None:
    settings = yaml.safe_load((training.top / "k8s/training/settings.yaml").read_text())["data"]
    (init,) = training.deployment()["spec"]["template"]["spec"]["initContainers"]
    job = yaml.safe_load((training.top / "k8s/training/job.yaml").read_text())
    (of_a_run, _) = job["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["initContainers"]
    assert (of_a_run["command"], of_a_run["args"]) == (init["command"], init["args"])
    words = [re.sub(r"\$\((\w+)\)", lambda found: settings[found[1]], each) for each in init["args"]]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    params = group.commands[init["command"][1]].make_context("clone", words).params
    assert (params["url"], params["branch"]) == (REMOTES.git, REMOTES.branch)
    assert params["into"] == Path("/srv/repository")


def test_the_accounts_have_their_rights_and_no_others(training: Training) -> None:
    objects = training.build("k8s/training/access")
    assert [fault for each in objects for fault in faults(each)] == []
    accounts = [each["metadata"] for each in objects if each["kind"] == "ServiceAccount"]
    assert {(each["namespace"], each["name"]) for each in accounts} == {
        ("training", "coalmine-worker"),
        ("training", "coalmine-trainer"),
    }
    (role,) = [each for each in objects if each["kind"] == "Role"]
    assert {(rule["resources"][0], *rule["verbs"]) for rule in role["rules"]} == {
        ("jobs", "get", "list", "watch", "create", "delete"),
        ("pods", "list", "watch"),
        ("pods/log", "get"),
        ("events", "create"),
    }
    assert not {each["kind"] for each in objects} & {"ClusterRole", "ClusterRoleBinding"}


def test_the_trainer_is_bound_to_roles_that_the_environment_has(training: Training) -> None:
    bindings = [
        each
        for each in training.build("k8s/training/access")
        if each["kind"] == "RoleBinding" and each["subjects"][0]["name"] == "coalmine-trainer"
    ]
    place = f"k8s/environments/{ENVIRONMENT}"
    access = training.build(f"{place}/access")
    flux = training.top / place / "flux.yaml"
    if flux.exists():
        access += yaml.safe_load_all(flux.read_text(encoding="utf-8"))
    as_runner = {
        each["roleRef"]["name"]
        for each in access
        if each["kind"] == "RoleBinding" and each["subjects"][0]["name"] == "coalmine-runner"
    }
    assert {each["roleRef"]["name"] for each in bindings} == as_runner
    assert {each["metadata"]["namespace"] for each in bindings} == {NAMESPACE}
    assert all(each["subjects"][0]["namespace"] == "training" for each in bindings)
