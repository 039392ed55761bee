"""Flux and server-side apply on a real API server, with real pods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    GIT_REPOSITORY,
    KUSTOMIZATION,
    POD,
    SERVICE,
    Kind,
)
from coalmine.errors import Conflict, ReconcilerUnavailable, SpecError, Unsupported
from coalmine.reconcilers.apply import ApplyReconciler
from coalmine.reconcilers.flux_state import revision_of
from coalmine.rollout.ports import Reconciler, SlotHealth, SlotStatus
from coalmine.slots import Slot
from tests.cluster.flux_place import Delivering, FluxPlace, files_of, flux_place
from tests.cluster.slot_objects import LAST_WORDS, NO_IMAGE, config_map, deployment, objects_of
from tests.contracts.reconciler import BETTER, BROKEN, GOOD, ReconcilerContract, settled, slots

Json = dict[str, Any]

QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
IN_SECONDS_S = 20.0  # on a machine that does much else; the deadline of a Deployment is 600
WHILE_IT_LASTS_S = 3.0


def wait_a_moment() -> None:
    time.sleep(0.2)


@pytest.fixture
def cut_off(cluster: Cluster) -> tuple[Cluster, Callable[[], None]]:
    """The cluster, and what takes it out of reach."""
    reached = Cluster.connect(cluster.namespace)

    def cut() -> None:
        reached.api.configuration.refresh_api_key_hook = None  # it would bring the address back
        reached.api.configuration.host = "https://127.0.0.1:9"

    return reached, cut


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[FluxPlace]:
    with flux_place(cluster, tmp_path) as made:
        yield made


class TestApplyKeepsTheContract(ReconcilerContract):
    @pytest.fixture
    def reconciler(self, cut_off: tuple[Cluster, Callable[[], None]]) -> Reconciler:
        return ApplyReconciler(cut_off[0], "m", objects_of)

    @pytest.fixture
    def wait(self) -> Callable[[], None]:
        return wait_a_moment

    @pytest.fixture
    def cut(self, cut_off: tuple[Cluster, Callable[[], None]]) -> Callable[[], None]:
        return cut_off[1]


class TestFluxKeepsTheContract(ReconcilerContract):
    @pytest.fixture
    def reconciler(self, cut_off: tuple[Cluster, Callable[[], None]], tmp_path: Path) -> Iterator[Reconciler]:
        with flux_place(cut_off[0], tmp_path) as place:
            yield Delivering(place)

    @pytest.fixture
    def wait(self) -> Callable[[], None]:
        return wait_a_moment

    @pytest.fixture
    def cut(self, cut_off: tuple[Cluster, Callable[[], None]]) -> Callable[[], None]:
        return cut_off[1]


# --- pods ------------------------------------------------------------------------------


def altered(change: Callable[[Json], object]) -> Callable[[Any], list[Json]]:
    """The objects, after `change` of the Deployments' pods."""

    def render(wanted: Any) -> list[Json]:
        objects = objects_of(wanted)
        for each in objects:
            if each["kind"] == DEPLOYMENT.kind:
                change(each["spec"]["template"]["spec"])
        return objects

    return render


def server_of(pod: Json) -> Json:
    container: Json = pod["containers"][0]
    return container


def failed(reconciler: Reconciler, slot: Slot = Slot.GREEN) -> str:
    """The words with which `slot` fails, in seconds."""
    began = time.monotonic()
    status = settled(reconciler, slot, wait_a_moment)
    assert status.health is SlotHealth.FAILED
    assert time.monotonic() - began < IN_SECONDS_S
    return status.detail


def test_a_server_that_dies_at_start_is_quoted_in_seconds_with_its_last_line(cluster: Cluster) -> None:
    reconciler = ApplyReconciler(cluster, "m", objects_of)
    reconciler.reconcile(slots({Slot.GREEN: BROKEN}))
    assert failed(reconciler).endswith(f"server ended with status 1: {LAST_WORDS}")
    time.sleep(WHILE_IT_LASTS_S)  # started again and again
    assert reconciler.status(Slot.GREEN).health is SlotHealth.FAILED


def test_a_fetch_that_ends_badly_is_quoted(cluster: Cluster) -> None:
    def fetching(pod: Json) -> None:
        command = ["python3", "-c", "import sys; sys.exit(6)"]
        pod["initContainers"] = [{**server_of(pod), "name": "fetch", "command": command}]
        del pod["initContainers"][0]["readinessProbe"], pod["initContainers"][0]["ports"]

    reconciler = ApplyReconciler(cluster, "m", altered(fetching))
    reconciler.reconcile(slots({Slot.GREEN: GOOD}))
    assert "fetch ended with status 6" in failed(reconciler)


def test_an_image_that_cannot_be_pulled_fails_in_seconds(cluster: Cluster) -> None:
    reconciler = ApplyReconciler(cluster, "m", altered(lambda pod: server_of(pod).update(image=NO_IMAGE)))
    reconciler.reconcile(slots({Slot.GREEN: GOOD}))
    said = failed(reconciler)
    assert "ErrImagePull" in said or "ImagePullBackOff" in said
    assert NO_IMAGE in said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param(
            {"envFrom": [{"configMapRef": {"name": "absent"}}]},
            'CreateContainerConfigError: configmap "absent" not found',
            id="no-configuration",
        ),
        pytest.param({"image": "not/a/NAME:::1"}, "InvalidImageName", id="no-name-of-an-image"),
        pytest.param({"command": ["/nothing"]}, "server ended with status 128 (StartError)", id="no-command"),
    ],
)
def test_a_container_that_cannot_be_made_fails_in_seconds(
    cluster: Cluster, changed: Json, words: str
) -> None:
    reconciler = ApplyReconciler(cluster, "m", altered(lambda pod: server_of(pod).update(changed)))
    reconciler.reconcile(slots({Slot.GREEN: GOOD}))
    assert words in failed(reconciler)


def test_pods_that_a_quota_refuses_fail_in_the_words_of_the_api_server(cluster: Cluster) -> None:
    cluster.create(
        QUOTA,
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none"},
            "spec": {"hard": {"pods": "0"}},
        },
    )
    reconciler = ApplyReconciler(cluster, "m", objects_of)
    reconciler.reconcile(slots({Slot.GREEN: GOOD}))
    assert "exceeded quota: none" in failed(reconciler)


def test_pods_that_admission_refuses_fail_in_the_words_of_the_api_server(cluster: Cluster) -> None:
    reconciler = ApplyReconciler(cluster, "m", altered(lambda pod: server_of(pod).pop("securityContext")))
    reconciler.reconcile(slots({Slot.GREEN: GOOD}))
    assert 'violates PodSecurity "restricted' in failed(reconciler)


def test_a_pod_that_no_node_takes_is_starting_at_first_in_the_words_of_the_scheduler(
    cluster: Cluster,
) -> None:
    reconciler = ApplyReconciler(cluster, "m", altered(lambda pod: pod.update(nodeSelector={"moon": "yes"})))
    reconciler.reconcile(slots({Slot.GREEN: GOOD}))
    deadline = time.monotonic() + IN_SECONDS_S
    while "Unschedulable" not in (status := reconciler.status(Slot.GREEN)).detail:
        assert time.monotonic() < deadline, status
        wait_a_moment()
    assert status.health is SlotHealth.STARTING
    assert "nodes are available" in status.detail


def test_a_slot_that_served_stays_ready_while_one_of_its_pods_is_missing(cluster: Cluster) -> None:
    def two(wanted: Any) -> list[Json]:
        return [_with_replicas(each, 2) for each in objects_of(wanted)]

    reconciler = ApplyReconciler(cluster, "m", two)
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    assert settled(reconciler, Slot.BLUE, wait_a_moment).health is SlotHealth.READY
    # One of the two may not be made again.
    cluster.create(
        QUOTA, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": ONE_POD}
    )
    cluster.delete(POD, cluster.list(POD)[0]["metadata"]["name"])
    deadline = time.monotonic() + IN_SECONDS_S
    while not (status := reconciler.status(Slot.BLUE)).detail:
        assert status.health is SlotHealth.READY
        assert time.monotonic() < deadline
        wait_a_moment()
    assert status == SlotStatus(SlotHealth.READY, "1 of 2 replicas are available")


ONE_POD = {"hard": {"pods": "1"}}


def test_a_new_process_believes_the_deployment(cluster: Cluster) -> None:
    ApplyReconciler(cluster, "m", objects_of).reconcile(slots({Slot.BLUE: GOOD}))
    another = ApplyReconciler(cluster, "m", objects_of)
    assert settled(another, Slot.BLUE, wait_a_moment).health is SlotHealth.READY
    assert another.status(Slot.GREEN) == SlotStatus(SlotHealth.FAILED, "nothing is meant to run in green")


def test_a_release_that_another_hand_changed_is_not_taken_for_ours(cluster: Cluster) -> None:
    reconciler = ApplyReconciler(cluster, "m", objects_of)
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    settled(reconciler, Slot.BLUE, wait_a_moment)
    cluster.apply(deployment(Slot.BLUE, BETTER), DEPLOYMENT.plural)
    status = reconciler.status(Slot.BLUE)
    assert status.health is SlotHealth.STARTING
    assert "still has release 222222222222, not 111111111111" in status.detail


def _with_replicas(thing: Json, count: int) -> Json:
    if thing["kind"] == DEPLOYMENT.kind:
        thing["spec"]["replicas"] = count
    return thing


# --- server-side apply -----------------------------------------------------------------


def test_an_emptied_slot_loses_what_was_made_for_it_and_nothing_of_others(cluster: Cluster) -> None:
    theirs = config_map(Slot.GREEN, GOOD)
    theirs["metadata"]["name"] = "m-theirs"
    cluster.create(CONFIG_MAP, theirs)
    reconciler = ApplyReconciler(cluster, "m", objects_of)
    reconciler.reconcile(slots({Slot.BLUE: GOOD, Slot.GREEN: BETTER}))
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    maps = {each["metadata"]["name"] for each in cluster.list(CONFIG_MAP)}
    assert maps >= {"m-blue", "m-theirs", "m-inventory"}
    assert "m-green" not in maps
    assert [each["metadata"]["name"] for each in cluster.list(DEPLOYMENT)] == ["m-blue"]
    assert len(cluster.list(SERVICE)) == 2


def test_fields_of_another_manager_are_named_and_nothing_is_changed(cluster: Cluster) -> None:
    reconciler = ApplyReconciler(
        cluster, "m", lambda wanted: [_with_replicas(o, 1) for o in objects_of(wanted)]
    )
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    scaled = {"spec": {"replicas": 2}}
    path = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments/m-blue"
    cluster.api.call_api(
        *cluster.api.param_serialize(
            "PATCH",
            f"{path}?fieldManager=somebody",
            header_params={"Content-Type": "application/merge-patch+json", "Accept": "application/json"},
            body=scaled,
            auth_settings=["BearerToken"],
        )
    )
    with pytest.raises(Conflict) as refused:
        reconciler.reconcile(slots({Slot.BLUE: BETTER}))
    said = str(refused.value)
    assert 'Deployment m-blue: Apply failed with 1 conflict: conflict with "somebody"' in said
    assert ".spec.replicas" in said
    there = cluster.get(CONFIG_MAP, "m-blue")
    assert there is not None
    assert there["data"] == {"manifest.yaml": "version: 1.0.0\n"}


def test_what_a_rollout_has_taken_is_left_alone_until_it_is_given_back(cluster: Cluster) -> None:
    reconciler = ApplyReconciler(cluster, "m", objects_of)
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    annotation = "kustomize.toolkit.fluxcd.io/reconcile"
    taken = {
        "metadata": {"annotations": {annotation: "disabled"}},
        "data": {"manifest.yaml": "the rollout's"},
    }
    cluster.merge(CONFIG_MAP, "m-blue", taken)
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    assert _data(cluster, "m-blue") == {"manifest.yaml": "the rollout's"}
    cluster.merge(CONFIG_MAP, "m-blue", {"metadata": {"annotations": {annotation: None}}})
    reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    assert _data(cluster, "m-blue") == {"manifest.yaml": "version: 1.0.0\n"}


@pytest.mark.parametrize(
    ("astray", "error"),
    [
        pytest.param(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}},
            SpecError,
            id="another-namespace",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "m-space"}},
            Unsupported,
            id="of-the-cluster",
        ),
        pytest.param(
            {"apiVersion": "coalmine.invalid/v1", "kind": "Mine", "metadata": {"name": "a"}},
            Unsupported,
            id="unknown",
        ),
    ],
)
def test_what_does_not_belong_into_the_namespace_is_refused_before_anything_is_changed(
    cluster: Cluster, astray: Json, error: type[Exception]
) -> None:
    reconciler = ApplyReconciler(cluster, "m", lambda wanted: [*objects_of(wanted), astray])
    with pytest.raises(error):
        reconciler.reconcile(slots({Slot.BLUE: GOOD}))
    assert cluster.list(SERVICE) == []


def _data(cluster: Cluster, name: str) -> Json:
    found = cluster.get(CONFIG_MAP, name)
    assert found is not None
    data: Json = found["data"]
    return data


# --- Flux ------------------------------------------------------------------------------


def refusal(place: FluxPlace, delivering: Delivering | None = None) -> str:
    """What a delivery to green is told."""
    with pytest.raises(ReconcilerUnavailable) as refused:
        (delivering or Delivering(place)).reconcile(slots({Slot.GREEN: GOOD}))
    return str(refused.value)


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (GIT_REPOSITORY, "flux resume source git coalmine"),
        (KUSTOMIZATION, "flux resume kustomization coalmine"),
    ],
    ids=["source", "kustomization"],
)
def test_what_is_suspended_is_named_with_the_command_that_lets_it_go_on(
    place: FluxPlace, kind: Kind, command: str
) -> None:
    place.change(kind, {"suspend": True})
    assert command in refusal(place)
    place.change(kind, {"suspend": False})
    Delivering(place).reconcile(slots({Slot.GREEN: GOOD}))


def test_a_source_that_follows_another_branch_is_named(place: FluxPlace) -> None:
    place.git("push", "--quiet", "origin", "main:production")
    place.change(GIT_REPOSITORY, {"ref": {"branch": "production"}})
    assert f"follows the branch production of {place.url}, and coalmine pushes to the branch main" in refusal(
        place
    )


def test_a_repository_that_is_not_there_is_named_in_fluxs_words(place: FluxPlace) -> None:
    place.change(GIT_REPOSITORY, {"url": place.url.replace("shop", "absent")})
    said = refusal(place)
    assert "cannot fetch the branch main of" in said
    assert "not found" in said


def test_a_folder_that_does_not_build_is_named_in_kustomizes_words(place: FluxPlace) -> None:
    delivering = Delivering(place)
    broken = {"kustomization.yaml": yaml.dump({"resources": ["absent.yaml"]})}
    delivering.pushed = place.push(broken)
    with pytest.raises(ReconcilerUnavailable) as refused:
        delivering.flux.reconcile(slots({Slot.GREEN: GOOD}))
    said = str(refused.value)
    assert f"cannot apply main@sha1:{delivering.pushed}: the folder does not build" in said
    assert "absent.yaml" in said


def test_a_folder_that_is_not_there_is_named(place: FluxPlace) -> None:
    place.change(KUSTOMIZATION, {"path": "./elsewhere"})
    assert "Is `spec.path` (./elsewhere) a folder" in refusal(place, Delivering(place, within_s=4))


def test_an_object_that_the_api_server_refuses_is_named(place: FluxPlace) -> None:
    delivering = Delivering(place)
    objects = objects_of(slots({Slot.GREEN: GOOD}))
    next(each for each in objects if each["kind"] == "Deployment")["spec"]["selector"] = {}
    delivering.pushed = place.push(files_of(objects))
    with pytest.raises(ReconcilerUnavailable, match="refuses what was built") as refused:
        delivering.flux.reconcile(slots({Slot.GREEN: GOOD}))
    assert "selector" in str(refused.value)


def test_what_waits_for_another_kustomization_says_for_which(place: FluxPlace) -> None:
    place.change(KUSTOMIZATION, {"dependsOn": [{"name": "infrastructure"}]})
    said = refusal(place, Delivering(place, within_s=4))
    assert f"dependency '{place.cluster.namespace}/infrastructure' not found" in said
    assert "flux get kustomizations" in said


def test_a_kustomization_that_waits_for_health_does_not_hold_a_delivery_up(place: FluxPlace) -> None:
    place.change(KUSTOMIZATION, {"wait": True, "timeout": "20s"})
    delivering = Delivering(place)
    delivering.reconcile(slots({Slot.GREEN: BROKEN}))
    assert LAST_WORDS in failed(delivering)


def test_a_commit_of_somebody_else_on_top_is_as_good(place: FluxPlace) -> None:
    delivering = Delivering(place)
    delivering.commit(slots({Slot.GREEN: GOOD}))
    (place.top / "README.md").write_text("Somebody else's.")
    place.git("add", "README.md")
    place.git("commit", "--quiet", "--message", "Something else")
    place.git("push", "--quiet", "origin", "main")
    delivering.flux.reconcile(slots({Slot.GREEN: GOOD}))
    source = place.cluster.get(GIT_REPOSITORY, "coalmine")
    assert source is not None
    assert revision_of(source) == f"main@sha1:{place.git('rev-parse', 'HEAD')}"
    assert settled(delivering, Slot.GREEN, wait_a_moment).health is SlotHealth.READY


def test_at_rest_flux_must_have_the_commit_although_no_pod_changes(place: FluxPlace) -> None:
    delivering = Delivering(place)
    delivering.reconcile(slots({Slot.GREEN: GOOD}))
    place.change(GIT_REPOSITORY, {"suspend": True})
    rolling_out = slots({Slot.GREEN: GOOD}).model_copy(update={"candidate": Slot.GREEN})
    delivering.reconcile(rolling_out)  # the route is the rollout's: Flux may be as it likes
    assert "is suspended" in refusal(place, delivering)


def test_an_image_that_cannot_be_pulled_comes_by_flux_and_fails_in_seconds(place: FluxPlace) -> None:
    delivering = Delivering(place, images={GOOD.version: NO_IMAGE})
    delivering.reconcile(slots({Slot.GREEN: GOOD}))
    assert NO_IMAGE in failed(delivering)
