"""What a cluster's worker makes of a repository on a real Prefect server: pool, deployments, Jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import get_current_settings
from prefect.testing.utilities import prefect_test_harness
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

from coalmine.errors import InputError
from coalmine.operations.platform import POOL
from coalmine.scaffold.repository import init
from coalmine.scaffold.training import Wanted, new_training
from flows.training_data import model_to_pull
from flows.worker import CODE, TEMPLATE, create_pool, deploy, job_template
from tests.k8s.environments import ENVIRONMENT, REMOTES
from tests.k8s.validation import faults

IMAGE = "registry.example.com/pipelines@sha256:" + "a" * 64
CLUSTER = """  production:
    reconciler: flux
    router: gateway_api
    telemetry: prometheus
    prometheus: {url: http://prometheus.example.com}
    kubernetes:
      namespace: models
      flux: {kustomization: coalmine-production, namespace: models}
"""


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120), pytest.MonkeyPatch.context() as patch:
        # What the worker starts finds the server as in its pod.
        patch.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
        yield


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("office") / "shop"
    identity = {f"GIT_{role}_{key}": "ada" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in identity.items():
            patch.setenv(name, value)
        init(top, examples=["credit-risk", "flight-delays"])
    with (top / "coalmine.yaml").open("a") as settings:
        settings.write(CLUSTER)
    new_training(top, Wanted(ENVIRONMENT, "training", "http://prefect:4200/api"), REMOTES)
    return top


@pytest.fixture(scope="module")
def made(repository: Path) -> Path:
    """As the worker does at its start, twice."""
    for _ in range(2):
        create_pool(job_template(repository, image=IMAGE, namespace="training"))
        deploy(repository, ENVIRONMENT)
    return repository


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def job_of(client: SyncPrefectClient, run_id: UUID) -> dict[str, Any]:
    """The Job that the worker would make of a run."""
    run = client.read_flow_run(run_id)
    pool = client.read_work_pool(POOL)
    assert run.deployment_id is not None
    deployment = client.read_deployment(run.deployment_id)

    async def prepare() -> KubernetesWorkerJobConfiguration:
        configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
            pool.base_job_template, {**deployment.job_variables, **(run.job_variables or {})}
        )
        configuration.prepare_for_flow_run(run, deployment, client.read_flow(run.flow_id), pool, "worker")
        return configuration

    return asyncio.run(prepare()).job_manifest


def started(client: SyncPrefectClient, deployment: str, **options: Any) -> UUID:
    found = client.read_deployment_by_name(deployment)
    return client.create_flow_run_from_deployment(found.id, **options).id


@pytest.mark.usefixtures("made")
def test_the_pool_is_of_kubernetes_with_the_worker_s_image_and_namespace(
    client: SyncPrefectClient,
) -> None:
    pool = client.read_work_pool(POOL)
    variables = pool.base_job_template["variables"]["properties"]
    assert pool.type == KubernetesWorker.type
    assert (variables["image"]["default"], variables["namespace"]["default"]) == (IMAGE, "training")


def test_every_deployment_of_prefect_yaml_is_there_with_its_schedule_and_the_environment(
    made: Path, client: SyncPrefectClient
) -> None:
    content = yaml.safe_load((made / "prefect.yaml").read_text())
    declared = {each["name"]: each for each in content["deployments"]}
    listed = {each.name: each for each in client.read_deployments()}
    assert listed.keys() == declared.keys()
    for name, each in listed.items():
        wanted = [schedule["cron"] for schedule in declared[name].get("schedules", [])]
        assert [getattr(schedule.schedule, "cron", None) for schedule in each.schedules] == wanted
        assert each.parameters.get("environment") == (None if name == "retrain" else ENVIRONMENT)
        assert each.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": CODE}}]
        assert not Path(each.entrypoint or "/").is_absolute()


@pytest.mark.usefixtures("made")
def test_a_run_becomes_a_job_that_its_kind_allows_and_that_has_no_more_rights_than_it_needs(
    client: SyncPrefectClient,
) -> None:
    run = started(client, "retrain/retrain", parameters={"model": "credit-risk"})
    job = job_of(client, run)
    # Prefect asks for two fields that the API server prunes.
    pod = job["spec"]["template"]["spec"]
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    job["metadata"]["name"] = "as generated"
    assert faults(job) == []
    assert job["metadata"]["namespace"] == "training"
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == job["spec"]["ttlSecondsAfterFinished"] == 86400
    assert pod["serviceAccountName"] == "coalmine-trainer"
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert all(set(volume["emptyDir"]) == {"sizeLimit"} for volume in pod["volumes"])
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["image"] == IMAGE
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"memory"} <= container["resources"]["limits"].keys()


@pytest.mark.usefixtures("made")
def test_its_pod_keeps_the_labels_by_which_networks_let_it_in_and_says_which_run_it_is(
    client: SyncPrefectClient,
) -> None:
    run = started(client, "retrain/retrain", parameters={"model": "credit-risk"})
    labels = job_of(client, run)["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "coalmine"
    assert labels["app.kubernetes.io/component"] == "training"
    assert labels["prefect.io/flow-run-id"] == str(run)


@pytest.mark.usefixtures("made")
def test_a_run_may_have_variables_and_resources_of_its_own(client: SyncPrefectClient) -> None:
    run = started(
        client,
        "retrain/retrain",
        parameters={"model": "credit-risk"},
        job_variables={"env": {"MORE": "1"}, "memory": "8Gi"},
    )
    (container,) = job_of(client, run)["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert (env["MORE"], env["HOME"], env["PREFECT__FLOW_RUN_ID"]) == ("1", "/tmp", str(run))
    # Hears SIGTERM as a container's first process, and does not begin again what ran into its deadline.
    assert container["args"] == ["python", "-m", "prefect.engine"]
    assert container["resources"]["limits"]["memory"] == "8Gi"


@pytest.mark.parametrize(
    ("deployment", "parameters", "model"),
    [
        ("retrain/retrain", {"model": "credit-risk"}, "credit-risk"),
        ("retrain-and-deliver/nightly", {}, "flight-delays"),
        ("retrain-and-deliver/nightly", {"model": "credit-risk"}, "credit-risk"),
        ("deliver/deliver", {"model": "credit-risk"}, None),
        ("rollback/rollback", {"model": "credit-risk"}, None),
    ],
)
@pytest.mark.usefixtures("made")
def test_data_comes_for_whichever_model_is_retrained_and_for_no_other_run(
    client: SyncPrefectClient,
    deployment: str,
    parameters: dict[str, str],
    model: str | None,
) -> None:
    assert model_to_pull(started(client, deployment, parameters=parameters)) == model


def test_a_pool_of_this_machine_is_left_alone(made: Path, client: SyncPrefectClient) -> None:
    client.delete_work_pool(POOL)
    client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    with pytest.raises(InputError, match=r"already, of type process.*prefect work-pool delete coalmine"):
        create_pool(job_template(made, image=IMAGE, namespace="training"))
    assert client.read_work_pool(POOL).type == "process"
    client.delete_work_pool(POOL)


def test_without_a_template_or_with_another_form_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"job\.yaml is not there.*coalmine new training"):
        job_template(tmp_path, image=IMAGE, namespace="training")
    (tmp_path / TEMPLATE).parent.mkdir(parents=True)
    (tmp_path / TEMPLATE).write_text("kind: Job\n")
    with pytest.raises(InputError, match=r"no base job template.*'variables'"):
        job_template(tmp_path, image=IMAGE, namespace="training")
