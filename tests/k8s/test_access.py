"""The accounts of an environment: what their Roles allow, against what coalmine asks for and what k8s/ holds.

Whether an API server sees it so: tests/cluster/test_access.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from coalmine.cluster.kinds import GIT_REPOSITORY, KUSTOMIZATION, POD
from coalmine.cluster.rights import rights_of
from coalmine.errors import TelemetryUnavailable
from coalmine.journals import cluster_store
from coalmine.operations.cluster_running import autoscaled
from coalmine.reconcilers.apply import ApplyReconciler
from coalmine.reconcilers.flux import FluxReconciler, Pushed
from coalmine.rollout.events import EventKind
from coalmine.rollout.ports import SlotHealth
from coalmine.routers.cluster_route import ClusterRouter
from coalmine.settings import FluxSettings
from coalmine.slots import Slot
from coalmine.telemetry.pods import ModelPods
from coalmine.wiring import TECHNOLOGIES
from tests.contracts.journal import PAUSE, carry_out, saved
from tests.contracts.reconciler import slots
from tests.journals.cluster_place import FAKE, Place
from tests.journals.test_cluster_rollouts import LATER
from tests.k8s.environments import (
    NAMESPACE,
    RECONCILERS,
    ROUTERS,
    TWO,
    Json,
    Repository,
    builder,
    new_repository,
)
from tests.k8s.test_objects import OF_A_MODEL, OF_AN_ENVIRONMENT
from tests.k8s.validation import faults
from tests.reconcilers.api_server import ApiServer, api_server
from tests.reconcilers.test_flux import AT_REST, OURS, Flux, _in_no_time, controllers, server  # noqa: F401
from tests.routers.fake_cluster import FakeCluster
from tests.routers.test_cluster_route import FIVE, accept, http_route, virtual_router, virtual_service
from tests.simulators.rights import Asked, noting

RUNNER, RECONCILER = "coalmine-runner", "coalmine-reconciler"
APPLIED = {"get", "create", "patch", "delete"}


@pytest.fixture(params=ROUTERS)
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    builder()
    return new_repository(tmp_path, request.param)


def access(environment: Repository) -> list[Json]:
    """What an admin applies."""
    return [*environment.build("access").objects, *environment.flux_objects()]


def allowed(environment: Repository, account: str) -> Asked:
    rights = rights_of(account, NAMESPACE, access(environment))
    return {(right.group, right.resource, right.verb) for right in rights}


def without_flux(top: Path, router: str) -> Repository:
    builder()
    return new_repository(top, router, "apply")


# --- the objects -------------------------------------------------------------------------


@pytest.mark.parametrize("reconciler", RECONCILERS)
@pytest.mark.parametrize("router", ROUTERS)
def test_every_object_is_one_that_its_kind_allows(tmp_path: Path, router: str, reconciler: str) -> None:
    objects = access(new_repository(tmp_path, router, reconciler))
    assert [fault for each in objects for fault in faults(each)] == []
    assert [each for each in objects if each["kind"] not in ("Namespace", "Role", "RoleBinding")]


@pytest.mark.parametrize("reconciler", RECONCILERS)
@pytest.mark.parametrize("router", ROUTERS)
def test_no_role_leaves_the_namespace_has_a_wildcard_or_leads_to_more(
    tmp_path: Path, router: str, reconciler: str
) -> None:
    objects = access(new_repository(tmp_path, router, reconciler))
    kinds = {each["kind"] for each in objects}
    assert kinds <= {
        *("Namespace", "ServiceAccount", "Role", "RoleBinding"),
        *(GIT_REPOSITORY.kind, KUSTOMIZATION.kind),
    }
    for each in objects:
        metadata = each["metadata"]
        assert metadata.get("namespace", metadata["name"]) == NAMESPACE
        for rule in each.get("rules", []):
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not words & {"*", "secrets", "serviceaccounts/token", "pods/exec", "pods"} - {"pods"}
            assert not {"escalate", "bind", "impersonate", "deletecollection"} & words
            assert "rbac.authorization.k8s.io" not in words
            assert rule.get("resourceNames", ["some"])  # an empty list is any


@pytest.mark.parametrize("reconciler", RECONCILERS)
def test_every_role_is_bound_to_an_account_that_is_there(tmp_path: Path, reconciler: str) -> None:
    objects = access(new_repository(tmp_path, "linkerd", reconciler))
    named = {(each["kind"], each["metadata"]["name"]) for each in objects}
    bindings = [each for each in objects if each["kind"] == "RoleBinding"]
    for each in bindings:
        assert ("Role", each["roleRef"]["name"]) in named
        (subject,) = each["subjects"]
        assert subject["namespace"] == NAMESPACE
        assert ("ServiceAccount", subject["name"]) in named
    assert len(bindings) == len([name for kind, name in named if kind == "Role"])


def test_no_token_is_given_to_a_pod_that_does_not_ask(environment: Repository) -> None:
    accounts = [each for each in access(environment) if each["kind"] == "ServiceAccount"]
    assert {each["metadata"]["name"] for each in accounts} == {RUNNER, RECONCILER}
    assert {each["automountServiceAccountToken"] for each in accounts} == {False}


def test_flux_applies_as_the_reconciler_and_the_environment_holds_no_rights(environment: Repository) -> None:
    """An account that applied its own Role could widen it."""
    (kustomization,) = [each for each in environment.flux_objects() if each["kind"] == KUSTOMIZATION.kind]
    assert kustomization["spec"]["serviceAccountName"] == RECONCILER
    assert kustomization["metadata"]["namespace"] == NAMESPACE  # Flux looks for the account there
    kinds = {each["kind"] for each in environment.build().objects}
    assert not kinds & {"Namespace", "ServiceAccount", "Role", "RoleBinding"}


def test_of_flux_the_runner_may_touch_the_environments_own_two_objects(environment: Repository) -> None:
    rights = rights_of(RUNNER, NAMESPACE, environment.flux_objects())
    names = {each["metadata"]["name"] for each in environment.flux_objects()[:2]}
    assert {right.name for right in rights} == names == {"coalmine-production"}


def test_no_right_is_given_twice(environment: Repository) -> None:
    for account in (RUNNER, RECONCILER):
        rights = rights_of(account, NAMESPACE, access(environment))
        assert len(set(rights)) == len(rights)


# --- the reconciler ----------------------------------------------------------------------


def test_the_reconciler_may_apply_what_k8s_brings_and_nothing_else(environment: Repository) -> None:
    environment.fill(TWO)
    for name in OF_A_MODEL:
        environment.add_component(name)
    for name in OF_AN_ENVIRONMENT:
        environment.add_component(name, "kustomization.yaml")
    brought = {_resource(each) for each in environment.build().objects}
    assert allowed(environment, RECONCILER) == {(*each, verb) for each in brought for verb in APPLIED}


def _resource(thing: Json) -> tuple[str, str]:
    group = thing["apiVersion"].rpartition("/")[0]
    plural = {"NetworkPolicy": "networkpolicies"}.get(thing["kind"], f"{thing['kind'].lower()}s")
    return group, plural


@pytest.mark.parametrize("router", ROUTERS)
def test_without_flux_the_runner_may_what_the_reconciler_may_and_is_alone(
    tmp_path: Path, router: str
) -> None:
    with_flux = new_repository(tmp_path / "flux", router)
    alone = without_flux(tmp_path / "apply", router)
    own = rights_of(RUNNER, NAMESPACE, with_flux.build("access").objects)
    brought = rights_of(RECONCILER, NAMESPACE, with_flux.build("access").objects)
    assert set(rights_of(RUNNER, NAMESPACE, access(alone))) == {*own, *brought}
    accounts = [each for each in access(alone) if each["kind"] == "ServiceAccount"]
    assert [each["metadata"]["name"] for each in accounts] == [RUNNER]


# --- the runner --------------------------------------------------------------------------


@pytest.fixture
def api(controllers: Flux) -> ApiServer:  # noqa: F811
    """With Flux in it, which has fetched what was pushed."""
    return controllers.server


ROUTES = {
    "gateway_api": http_route,
    "istio": virtual_service,
    "linkerd": http_route,
    "appmesh": virtual_router,
}


def keep_state(place: Path, asked: Asked) -> None:
    """A rollout is published, driven, asked and told of, and the next one takes its place."""
    machine = Place(place).machine()
    noting(machine.cluster, asked, watched=True)
    folder = machine.publish(FAKE)
    assert list(machine.rollouts.undriven()) == [folder]
    with (journal := machine.journal(FAKE)).lease():
        for number in range(8):
            carry_out(journal, number)
        for _ in range(2):
            machine.rollouts.ask(folder, PAUSE)
        machine.rollouts.leave(folder, "found.json", "{}")
    with machine.rollouts.runner.held("a test"):
        end = saved(8)
        end["outbox"]["events"][0]["kind"] = EventKind.PROMOTED.value
        with (journal := machine.journal(FAKE)).lease():
            journal.save(end)
    machine.publish(LATER)


def move_users(router: str, asked: Asked) -> None:
    """A weight is set, seen, and given back."""
    technology, cluster = TECHNOLOGIES[router], noting(FakeCluster(accept), asked, watched=True)
    cluster.put(technology.kind, ROUTES[router]("m"), "kustomize-controller")
    moved = ClusterRouter(cluster, "m", technology)
    moved.set_split(FIVE)
    assert moved.observed_split() == FIVE
    moved.give_back()


def have_flux_look(api: ApiServer, asked: Asked) -> None:
    """... and look at a slot whose pods are not ready, and at what its servers say."""
    cluster = noting(api.cluster(), asked, watched=True)
    pushed = Pushed("main", lambda: OURS, lambda *_: False)
    flux = FluxReconciler(cluster, "m", FluxSettings(kustomization="coalmine"), pushed)
    flux.reconcile(AT_REST)
    assert flux.status(Slot.BLUE).health is SlotHealth.STARTING
    labels = {"app.kubernetes.io/name": "m", "coalmine.dev/slot": "blue"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    api.put(POD, {"metadata": {"name": "m-1", "labels": labels}, "status": {"conditions": [ready]}})
    with pytest.raises(TelemetryUnavailable):
        ModelPods(cluster, "m").servers()[Slot.BLUE]["m-1"]("pairs")


def test_the_runner_may_do_what_a_rollout_asks_for_and_nothing_else(
    environment: Repository,
    tmp_path: Path,
    api: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_store, "SEGMENT_BYTES", 100)
    asked: Asked = set()
    keep_state(tmp_path / "machines", asked)
    move_users(environment.router, asked)
    have_flux_look(api, asked)
    autoscaled(noting(api.cluster(), asked, watched=True))
    assert allowed(environment, RUNNER) == asked


def test_applying_asks_for_what_the_reconciler_may(tmp_path: Path) -> None:
    """As `reconciler: apply` does it: what is new comes, what Git no longer has goes."""
    asked: Asked = set()
    brought = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m-blue"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m-more"}},
    ]
    with api_server() as served:
        there = noting(served.cluster(), asked)
        for objects in (brought, []):
            ApplyReconciler(there, "m", lambda _, objects=objects: objects).reconcile(slots({}))
    own = allowed(without_flux(tmp_path, "gateway_api"), RUNNER)
    assert asked <= own
    assert {verb for group, resource, verb in asked if resource == "services"} == APPLIED


# --- what the page says of people --------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs/access.md").read_text(encoding="utf-8")


def test_a_person_who_asks_a_runner_needs_no_more_than_the_page_says(tmp_path: Path) -> None:
    there = Place(tmp_path)
    runner, person, asked = there.machine(), there.machine(), set()
    runner.publish(FAKE)
    with runner.journal(FAKE).lease():
        noting(person.cluster, asked)
        (folder,) = person.rollouts.at_hand(FAKE.model)
        for _ in range(2):
            person.rollouts.ask(folder, PAUSE)
        person.rollouts.is_driven(folder)
        person.rollouts.runner.is_held()
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `pause`")]
    assert "get, create, update of ConfigMaps; get of Leases" in row
    assert asked == {
        *(("", "configmaps", verb) for verb in ("get", "create", "update")),
        ("coordination.k8s.io", "leases", "get"),
    }


def test_the_pages_binding_of_people_names_roles_that_are_there(environment: Repository) -> None:
    (binding,) = [yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert faults(binding) == []
    roles = {each["metadata"]["name"] for each in access(environment) if each["kind"] == "Role"}
    assert binding["roleRef"]["name"] in roles
    assert set(re.findall(r"`(coalmine-(?:runner-route|production-ask))`", PAGE)) <= roles


def test_the_page_names_each_verb_of_the_runner(environment: Repository) -> None:
    """By the plural, as people write it: `HTTPRoutes`."""
    rows = [line.split("|") for line in PAGE.splitlines() if re.match(r"\| [a-z, ]+ \|", line)]
    said = {
        (verb, word) for row in rows for verb in row[1].split(",") for word in re.findall(r"[\w/]+", row[2])
    }
    said = {(verb.strip(), word.lower()) for verb, word in said}
    singular = {"kustomizations": "kustomization", "gitrepositories": "gitrepository"}
    for _, resource, verb in allowed(environment, RUNNER):
        assert (verb, singular.get(resource, resource)) in said, (verb, resource)
