"""What every pod is like, whatever its model: what it may do, what it is asked, how it ends."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from coalmine.cli import app
from coalmine.serving import __main__ as serving
from coalmine.slots import Slot
from tests.k8s.environments import EMPTY, MODEL, ONE, TWO, Built, Json, Repository, builder, new_repository

SLOTS = [f"{MODEL}-blue", f"{MODEL}-green"]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """With a release in each slot."""
    builder()
    repository = new_repository(tmp_path_factory.mktemp("repository"), "gateway_api", models=[MODEL])
    repository.fill(TWO)
    return repository.build()


@pytest.fixture
def one_model(tmp_path: Path) -> Repository:
    builder()
    return new_repository(tmp_path, "gateway_api", models=[MODEL])


def pod_of(built: Built, name: str = SLOTS[0]) -> Json:
    spec: Json = built.one("Deployment", name)["spec"]["template"]["spec"]
    return spec


def containers(pod: Json) -> list[Json]:
    return [*pod["initContainers"], *pod["containers"]]


def ports_of(server: Json) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in server["ports"]}


def words(container: Json, slot: str) -> list[str]:
    """The container's arguments as it gets them."""
    values = {each["name"]: each.get("value", slot) for each in container["env"]}
    values["DVC_REMOTE"] = "s3://models/dvc"
    return [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], word) for word in container["args"]]


# --- commands ----------------------------------------------------------------------------


def test_the_server_understands_its_arguments(of_two: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot in Slot:
        (server,) = pod_of(of_two, f"{MODEL}-{slot}")["containers"]
        assert "command" not in server  # the image's own: python -m coalmine.serving
        monkeypatch.setattr(sys, "argv", ["coalmine.serving", *words(server, slot)])
        given = serving._arguments()
        assert (given.slot, given.port, given.host) == (slot, 8080, "0.0.0.0")
        assert (given.timeout_s, given.queue) == (2.0, 1024)
        mounted = {each["mountPath"]: each.get("readOnly", False) for each in server["volumeMounts"]}
        assert mounted[str(given.release)] is True
        assert ports_of(server) == {"http": given.port, "copies": given.copies_port}


def test_a_service_leads_to_each_of_the_servers_ports(of_two: Built) -> None:
    for name in SLOTS:
        (server,) = pod_of(of_two, name)["containers"]
        led = {each["targetPort"]: each["port"] for each in of_two.one("Service", name)["spec"]["ports"]}
        assert set(led) == set(ports_of(server))
        assert led["http"] == 80


def test_the_first_step_understands_its_arguments(of_two: Built) -> None:
    (fetch,) = pod_of(of_two)["initContainers"]
    assert fetch["command"] == ["coalmine", "fetch"]
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    given = top.commands["fetch"].make_context("fetch", words(fetch, "blue")).params
    mounted = {each["mountPath"]: each["name"] for each in fetch["volumeMounts"]}
    assert mounted[str(given["manifest"].parent)] == "slot"
    assert mounted[str(given["into"])] == "release"
    assert (given["digest"], given["remote"]) == (TWO.releases[Slot.BLUE].model_digest, "s3://models/dvc")
    assert (
        f"COPY pipelines {given['code']}/pipelines\n"
        in (Path(__file__).parents[2] / "Dockerfile").read_text()
    )


# --- rights and resources ----------------------------------------------------------------


def test_a_pod_asks_for_no_rights(of_two: Built) -> None:
    for name in SLOTS:
        pod = pod_of(of_two, name)
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert "runAsGroup" not in context or "runAsUser" in context  # containerd makes no such pod
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {key for each in pod["volumes"] for key in each} == {"name", "emptyDir", "configMap"}
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_writes_to_its_own_volumes_alone(of_two: Built) -> None:
    pod = pod_of(of_two)
    emptied = {each["name"] for each in pod["volumes"] if "emptyDir" in each}
    for container in containers(pod):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for mount in container["volumeMounts"]:
            assert mount.get("readOnly") or mount["name"] in emptied
        home = {each["name"]: each.get("value") for each in container["env"]}.get("HOME", "/tmp")
        assert home in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_memory_is_bounded_and_processor_time_is_not(of_two: Built) -> None:
    for container in containers(pod_of(of_two)):
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}


def test_the_fetching_step_alone_gets_credentials(of_two: Built) -> None:
    (fetch,), (server,) = pod_of(of_two)["initContainers"], pod_of(of_two)["containers"]
    assert [*(each for source in fetch["envFrom"] for each in source)] == ["configMapRef", "secretRef"]
    assert "envFrom" not in server


# --- life and death ----------------------------------------------------------------------


def test_a_server_that_ends_is_out_of_the_service_before_it_stops_to_listen(of_two: Built) -> None:
    (server,) = pod_of(of_two)["containers"]
    drain_s = float(next(word for word in server["args"] if word.startswith("--drain-s=")).partition("=")[2])
    ready = server["readinessProbe"]
    assert drain_s > ready["periodSeconds"] * ready["failureThreshold"]
    assert pod_of(of_two)["terminationGracePeriodSeconds"] > drain_s + 2.0 * 5


def test_a_new_pod_is_ready_before_an_old_one_goes(of_two: Built) -> None:
    strategy = of_two.one("Deployment", SLOTS[0])["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_of_a_slot_spread_and_are_counted_by_themselves(of_two: Built) -> None:
    for slot in Slot:
        name = f"{MODEL}-{slot}"
        selected = {"app.kubernetes.io/name": MODEL, "coalmine.dev/slot": slot.value}
        assert of_two.one("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == selected
        for spread in pod_of(of_two, name)["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"] == selected
            assert spread["whenUnsatisfiable"] == "ScheduleAnyway"  # one node is enough


def test_pods_are_scraped_where_they_serve(of_two: Built) -> None:
    template = of_two.one("Deployment", SLOTS[0])["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/path"] == "/metrics"
    (server,) = template["spec"]["containers"]
    assert int(annotations["prometheus.io/port"]) == ports_of(server)["http"]


# --- how many ----------------------------------------------------------------------------


def test_an_environment_says_how_many_pods_and_how_large(one_model: Repository) -> None:
    def larger(content: Json) -> None:
        content["replicas"] = [{"name": "blue", "count": 3}, {"name": "green", "count": 2}]
        content["patches"][0]["patch"] = content["patches"][0]["patch"].replace("512Mi", "2Gi")

    one_model.edit(f"{MODEL}/kustomization.yaml", larger)
    one_model.fill(TWO)
    built = one_model.build()

    deployments = [built.one("Deployment", name) for name in SLOTS]
    assert [each["spec"]["replicas"] for each in deployments] == [3, 2]
    for each in deployments:
        (server,) = each["spec"]["template"]["spec"]["containers"]
        assert server["resources"] == {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}


def test_with_autoscaling_git_says_no_number_of_pods(one_model: Repository) -> None:
    one_model.add_component("autoscaling")
    one_model.edit(f"{MODEL}/kustomization.yaml", lambda content: content.pop("replicas"))
    one_model.fill(TWO)
    built = one_model.build()
    for name in SLOTS:
        assert "replicas" not in built.one("Deployment", name)["spec"]
        target = built.one("HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]
        assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}


@pytest.mark.parametrize("first", [True, False], ids=["before the slots", "after them"])
def test_an_empty_slot_has_no_autoscaler(one_model: Repository, first: bool) -> None:
    one_model.add_component("autoscaling")

    def reorder(content: Json) -> None:
        content["components"].sort(key=lambda each: ("autoscaling" in each) is not first)

    one_model.edit(f"{MODEL}/kustomization.yaml", reorder)
    one_model.fill(ONE)
    assert set(one_model.build().of("HorizontalPodAutoscaler")) == {f"{MODEL}-blue"}
    one_model.fill(EMPTY)
    assert one_model.build().of("HorizontalPodAutoscaler") == {}


# --- an environment's own choices --------------------------------------------------------


def test_the_image_of_an_environment_takes_the_place_of_one_that_is_not_recorded(
    one_model: Repository,
) -> None:
    def name_an_image(content: Json) -> None:
        content["images"] = [
            {"name": "model-server", "newName": "registry.example.com/team", "newTag": "abc"}
        ]

    one_model.edit("every_model/kustomization.yaml", name_an_image)
    unrecorded = TWO.pods[Slot.GREEN].model_copy(update={"image": "model-server"})
    one_model.fill(TWO.model_copy(update={"pods": {**TWO.pods, Slot.GREEN: unrecorded}}))
    built = one_model.build()
    images = [{each["image"] for each in containers(pod_of(built, name))} for name in SLOTS]
    assert images == [{TWO.pods[Slot.BLUE].image}, {"registry.example.com/team:abc"}]


def test_the_stricter_network_holds_every_models_pods_and_nobody_elses(one_model: Repository) -> None:
    one_model.add_component("network-policy", "kustomization.yaml")
    one_model.fill(TWO)
    built = one_model.build()
    (policy,) = [each for each in built.objects if each["kind"] == "NetworkPolicy"]
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    labels = built.one("Deployment", SLOTS[0])["spec"]["template"]["metadata"]["labels"]
    assert selected <= labels.items()
    assert not selected <= {"app.kubernetes.io/part-of": "coalmine"}.items()
    (server,) = pod_of(built)["containers"]
    opened = {each["port"] for each in policy["spec"]["ingress"][0]["ports"]}
    assert opened == set(ports_of(server).values())
