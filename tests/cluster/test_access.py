"""The accounts of an environment before a real API server: each verb of their Roles is needed, and enough.

Without one verb, the smallest thing that needs it is refused with words that name it; as shipped, it
works. No pod runs here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.cluster.client import Cluster, ClusterRefuses, ClusterUnavailable
from coalmine.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    GIT_REPOSITORY,
    KUSTOMIZATION,
    LEASE,
    POD,
    Kind,
)
from coalmine.cluster.lease import Leases
from coalmine.cluster.rights import Right, rights_of
from coalmine.errors import CoalmineError, Unsupported
from coalmine.journals.cluster_objects import config_map, labels, rollout_name, segment_name
from coalmine.journals.cluster_store import ClusterStore, Kept
from coalmine.journals.shared_lines import SharedLines
from coalmine.reconcilers.apply import ApplyReconciler
from coalmine.reconcilers.deployed import Deployed
from coalmine.reconcilers.flux import FluxReconciler, Pushed
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers import hands
from coalmine.routers.cluster_route import ClusterRouter, route_name
from coalmine.settings import FluxSettings
from coalmine.slots import Slot
from coalmine.wiring import TECHNOLOGIES
from tests.cluster import routed
from tests.cluster.accounts import ROLE, ROLE_BINDING, account_with, known, reached_as
from tests.cluster.flux_place import FluxPlace, files_of, flux_place
from tests.contracts.reconciler import slots
from tests.k8s.environments import MODEL, NAMESPACE, ROUTERS, TWO, new_repository

Json = dict[str, Any]

RUNNER, RECONCILER = "coalmine-runner", "coalmine-reconciler"
COMPONENTS = Path(__file__).parents[2] / "k8s/components/access"
SECRET = Kind("", "v1", "Secret", "secrets")
FLUX = FluxSettings(kustomization="coalmine-production")


# --- which rights there are --------------------------------------------------------------


def shipped(file: str, account: str) -> list[Right]:
    """As the component says it: tests/k8s/test_access.py has what Kustomize makes of it."""
    objects = list(yaml.safe_load_all((COMPONENTS / file).read_text(encoding="utf-8")))
    for each in objects:
        each["metadata"]["namespace"] = NAMESPACE
        for subject in each.get("subjects", []):
            subject["namespace"] = NAMESPACE
    return rights_of(account, NAMESPACE, objects)


OF_FLUX = [
    Right(NAMESPACE, kind.group, kind.plural, verb, FLUX.kustomization)
    for kind in (GIT_REPOSITORY, KUSTOMIZATION)
    for verb in ("get", "patch")
]
OF_THE_RUNNER = {
    "gateway_api": shipped("runner.yaml", RUNNER) + OF_FLUX,
    **{router: [] for router in ROUTERS[1:]},
}
OF_THE_RECONCILER = {
    "gateway_api": shipped("reconciler.yaml", RECONCILER),
    **{router: [] for router in ROUTERS[1:]},
}
CASES = [
    pytest.param(router, account, right, id=f"{account}-{router}-{right}".replace(" ", "-"))
    for account, common in ((RUNNER, OF_THE_RUNNER), (RECONCILER, OF_THE_RECONCILER))
    for router in ROUTERS
    for right in (*common[router], *shipped(f"{router}/route.yaml", account))
]


# --- environments ------------------------------------------------------------------------


@dataclass
class Environment:
    """One as `coalmine new environment` writes it, with what an admin applies, in a namespace of its own.

    admin: the cluster as whoever runs the tests reaches it. brought: what Git has, and no pods.
    """

    router: str
    admin: Cluster
    access: list[Json]
    brought: list[Json]
    accounts: dict[str, Cluster] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def rights(self, account: str) -> list[Right]:
        return rights_of(account, self.admin.namespace, self.access)

    def by(self, account: str) -> Cluster:
        """With the shipped rights."""
        if account not in self.accounts:
            self.accounts[account] = reached_as(self.admin, account)
            routed.eventually(known(self.accounts[account], self.rights(account)), "the Roles count")
        return self.accounts[account]

    def new_name(self) -> str:
        return f"m{next(self.names)}"

    @property
    def route(self) -> Json:
        return next(each for each in self.brought if each["metadata"]["name"] == route_name(MODEL))


@pytest.fixture(scope="module")
def environments(
    any_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Environment]]:
    """By router; each is made once."""
    made: dict[str, Environment] = {}
    with ExitStack() as stack:

        def environment(router: str) -> Environment:
            if router not in made:
                there = stack.enter_context(routed.namespace(any_cluster))
                made[router] = new_environment(there, tmp_path_factory.mktemp(router), router)
            return made[router]

        yield environment


def new_environment(there: Cluster, top: Path, router: str, reconciler: str = "flux") -> Environment:
    repository = new_repository(top, router, reconciler)
    repository.fill(TWO)
    repository.add_component("autoscaling")
    for name in ("network-policy", "monitoring"):
        repository.add_component(name, "kustomization.yaml")
    place = there.namespace
    access = moved([*repository.build("access").objects, *repository.flux_objects()], place)
    access = [each for each in access if each["kind"] != "Namespace"]
    for each in access:
        if each["kind"] in (GIT_REPOSITORY.kind, KUSTOMIZATION.kind):
            each["spec"]["suspend"] = True  # there is no such repository
    applied(access)
    brought = moved(repository.build().objects, place)
    for each in brought:
        if each["kind"] == "Deployment":
            each["spec"]["replicas"] = 0
    return Environment(router, there, access, brought)


def moved(objects: list[Json], namespace: str) -> list[Json]:
    text = yaml.safe_dump_all(objects).replace(f"namespace: {NAMESPACE}\n", f"namespace: {namespace}\n")
    return list(yaml.safe_load_all(text))


def applied(objects: list[Json]) -> None:
    command = ["kubectl", "apply", "--server-side", "-f", "-"]
    subprocess.run(command, input=yaml.safe_dump_all(objects), text=True, check=True, capture_output=True)


# --- the smallest thing that needs a right -----------------------------------------------

Operation = Callable[[Cluster], object]


def operation(environment: Environment, account: str, right: Right) -> Operation:
    if account == RECONCILER:
        thing = next(each for each in environment.brought if plural(environment, each) == right.resource)
        return lambda cluster: comes_and_goes(cluster, environment.new_name(), thing)
    if right.verb == "watch" or (right.verb == "list" and (right.resource, "list") not in OPERATIONS):
        return lambda cluster: kind_is_mirrored(environment, cluster, right)
    if right.resource == TECHNOLOGIES[environment.router].kind.plural:
        return lambda cluster: route_is_given_back(environment, cluster)
    prepare = OPERATIONS[right.resource, right.verb]
    return prepare(environment.admin, environment.new_name())


def plural(environment: Environment, thing: Json) -> str:
    """Empty where the cluster does not know its kind."""
    try:
        return environment.admin.kind(thing["apiVersion"], thing["kind"]).plural
    except Unsupported:
        return ""


def kind_is_mirrored(environment: Environment, cluster: Cluster, right: Right) -> None:
    kind = Kind(right.group, version(right), "", right.resource)
    if right.verb == "list":
        cluster.snapshot(kind)
        return
    _, since = environment.admin.snapshot(kind)
    with cluster.changes(kind, since, 1.0):
        pass


def comes_and_goes(cluster: Cluster, model: str, thing: Json) -> None:
    """By server-side apply, as Flux does it and coalmine without Flux."""
    named = {**thing, "metadata": {**thing["metadata"], "name": f"{model}-{thing['metadata']['name']}"[:60]}}
    for objects in ([named], []):
        ApplyReconciler(cluster, model, lambda _, objects=objects: objects).reconcile(slots({}))


def route_is_given_back(environment: Environment, cluster: Cluster) -> None:
    technology = TECHNOLOGIES[environment.router]
    applied([environment.route])
    route = environment.admin.get(technology.kind, route_name(MODEL))
    assert route is not None
    split = hands.as_text(TrafficSplit.canary(Slot.GREEN, 5))
    environment.admin.replace(technology.kind, hands.with_memory(route, hands.Memory(split=split)))
    ClusterRouter(cluster, MODEL, technology).give_back()


def lines(cluster: Cluster, model: str) -> SharedLines:
    return SharedLines(cluster, f"{model}-asks", model, "r1")


def lines_are_added(admin: Cluster, model: str, times: int) -> Operation:
    if times > 1:
        lines(admin, model).add({"n": 0})
    return lambda cluster: lines(cluster, model).add({"by": str(id(cluster))})


def a_file_is_left(admin: Cluster, model: str) -> Operation:
    ClusterStore(admin, model).put(Kept("r1", {}), None)
    return lambda cluster: ClusterStore(cluster, model).leave("r1", "found.json", "{}")


def the_rollout_before_is_dropped(admin: Cluster, model: str) -> Operation:
    admin.create(CONFIG_MAP, config_map(segment_name(model, 0), model, "r1"))
    return lambda cluster: ClusterStore(cluster, model).drop_others("r2")


def a_lease_is_declared(admin: Cluster, model: str, *, is_there: bool) -> Operation:
    marks = labels(model, "r1")
    if is_there:
        Leases(admin).declare(rollout_name(model), marks)
    return lambda cluster: Leases(cluster).declare(rollout_name(model), marks)


def a_lease_is_held(admin: Cluster, model: str) -> Operation:
    Leases(admin).declare(model, {})

    def hold(cluster: Cluster) -> None:
        with Leases(cluster).held(model, "me", {}, lambda lease: lease.held_by):
            pass

    return hold


def a_slot_is_looked_at(admin: Cluster, model: str) -> Operation:
    """One that has a Deployment and no pods yet."""
    template = {"metadata": {"labels": {"app": model}}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
    spec = {"paused": True, "selector": {"matchLabels": {"app": model}}, "template": template}
    admin.create(DEPLOYMENT, {"metadata": {"name": f"{model}-blue"}, "spec": spec})
    return lambda cluster: Deployed(cluster, model).status(Slot.BLUE)


def a_pod_is_asked(_admin: Cluster, _model: str) -> Operation:
    def ask(cluster: Cluster) -> None:
        with suppress(ClusterUnavailable):  # whoever may ask is told that there is no such pod
            cluster.from_pod("nobody", 8080, "pairs")

    return ask


def flux_is_looked_at(_admin: Cluster, model: str) -> Operation:
    def look(cluster: Cluster) -> None:
        settings = FLUX.model_copy(update={"namespace": cluster.namespace})
        pushed = Pushed("main", lambda: "c" * 40, lambda *_: False)
        FluxReconciler(cluster, model, settings, pushed).objects()

    return look


def flux_is_asked(kind: Kind) -> Callable[[Cluster, str], Operation]:
    asked = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}}
    return lambda _admin, _model: lambda cluster: cluster.merge(kind, FLUX.kustomization, asked)


def a_profile_is_looked_for(admin: Cluster, model: str) -> Operation:
    linkerd = TECHNOLOGIES["linkerd"]
    kind = {"apiVersion": linkerd.kind.api_version, "kind": linkerd.kind.kind}
    admin.create(linkerd.kind, {**kind, "metadata": {"name": route_name(model)}, "spec": {}})
    return lambda cluster: ClusterRouter(cluster, model, linkerd)._route()


OPERATIONS: dict[tuple[str, str], Callable[[Cluster, str], Operation]] = {
    ("configmaps", "get"): lambda _, model: lambda cluster: lines(cluster, model).read(),
    ("configmaps", "list"): lambda _, model: lambda cluster: ClusterStore(cluster, model).drop_others("r1"),
    ("configmaps", "create"): lambda admin, model: lines_are_added(admin, model, 1),
    ("configmaps", "update"): lambda admin, model: lines_are_added(admin, model, 2),
    ("configmaps", "patch"): a_file_is_left,
    ("configmaps", "delete"): the_rollout_before_is_dropped,
    ("leases", "get"): lambda _, model: lambda cluster: Leases(cluster).look(model),
    ("leases", "list"): lambda _, model: lambda cluster: Leases(cluster).list(labels(model)),
    ("leases", "create"): lambda admin, model: a_lease_is_declared(admin, model, is_there=False),
    ("leases", "patch"): lambda admin, model: a_lease_is_declared(admin, model, is_there=True),
    ("leases", "update"): a_lease_is_held,
    ("deployments", "get"): a_slot_is_looked_at,
    ("replicasets", "list"): a_slot_is_looked_at,
    ("pods", "list"): a_slot_is_looked_at,
    ("pods/proxy", "get"): a_pod_is_asked,
    ("gitrepositories", "get"): flux_is_looked_at,
    ("gitrepositories", "patch"): flux_is_asked(GIT_REPOSITORY),
    ("kustomizations", "get"): flux_is_looked_at,
    ("kustomizations", "patch"): flux_is_asked(KUSTOMIZATION),
    ("serviceprofiles", "list"): a_profile_is_looked_for,
}


@pytest.mark.parametrize(("router", "account", "right"), CASES)
def test_each_right_is_needed_and_named_where_it_is_missing(
    environments: Callable[[str], Environment], router: str, account: str, right: Right
) -> None:
    environment = environments(router)
    rights = environment.rights(account)
    routed.require(environment.admin, Kind(right.group, version(right), "", right.resource.split("/")[0]))
    missing = Right(environment.admin.namespace, right.group, right.resource, right.verb, right.name)
    assert missing in rights
    others = [each for each in rights if each != missing]
    without = account_with(environment.admin, f"without-{environment.new_name()}", others)
    do = operation(environment, account, right)
    with pytest.raises(CoalmineError) as refused:
        do(without)
    assert names(right) in str(refused.value)
    do(environment.by(account))


def version(right: Right) -> str:
    return {"linkerd.io": "v1alpha2", "appmesh.k8s.aws": "v1beta2", "autoscaling": "v2"}.get(
        right.group, "v1"
    )


def names(right: Right) -> str:
    """As the API server says what is missing."""
    return f'cannot {right.verb} resource "{right.resource}" in API group "{right.group}"'


# --- what nobody may ---------------------------------------------------------------------


@pytest.mark.parametrize("account", [RUNNER, RECONCILER])
def test_neither_account_reads_a_secret(environments: Callable[[str], Environment], account: str) -> None:
    reached = environments("gateway_api").by(account)
    for ask in (lambda: reached.get(SECRET, "dvc-remote"), lambda: reached.list(SECRET)):
        with pytest.raises(ClusterRefuses, match='resource "secrets"'):
            ask()


@pytest.mark.parametrize("account", [RUNNER, RECONCILER])
def test_neither_account_touches_another_environment_of_the_cluster(
    environments: Callable[[str], Environment], account: str
) -> None:
    other = environments("istio").admin
    reached = environments("gateway_api").by(account).in_namespace(other.namespace)
    change: Json = {"metadata": {"labels": {"whose": "mine"}}}
    for kind in (CONFIG_MAP, LEASE, DEPLOYMENT, POD, KUSTOMIZATION, GIT_REPOSITORY, SECRET):
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "theirs"}}
        for ask in (
            lambda kind=kind: reached.get(kind, "theirs"),
            lambda kind=kind: reached.list(kind),
            lambda kind=kind: reached.merge(kind, "theirs", change),
            lambda kind=kind: reached.delete(kind, "theirs"),
            lambda kind=kind, body=body: reached.create(kind, body),
            lambda kind=kind, body=body: reached.apply(body, kind.plural, dry_run=True),
        ):
            with pytest.raises(
                ClusterRefuses, match=f'"{kind.plural}" .*in the namespace "{other.namespace}"'
            ):
                ask()


@pytest.mark.parametrize("account", [RUNNER, RECONCILER])
def test_neither_account_widens_its_rights_or_takes_anothers(
    environments: Callable[[str], Environment], account: str
) -> None:
    environment = environments("gateway_api")
    reached = environment.by(account)
    wider = {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
    binding = {
        "apiVersion": ROLE_BINDING.api_version,
        "kind": ROLE_BINDING.kind,
        "metadata": {"name": "more"},
    }
    role = {"apiGroup": ROLE.group, "kind": "ClusterRole", "name": "cluster-admin"}
    for ask in (
        lambda: reached.merge(ROLE, account, wider),
        lambda: reached.create(ROLE_BINDING, {**binding, "roleRef": role, "subjects": []}),
        lambda: reached_as(reached, RECONCILER if account == RUNNER else RUNNER),
    ):
        with pytest.raises(Exception, match=r"cannot (patch|create) resource"):
            ask()


def test_the_runner_asks_no_other_kustomization_of_the_namespace(
    environments: Callable[[str], Environment],
) -> None:
    reached = environments("gateway_api").by(RUNNER)
    for kind in (KUSTOMIZATION, GIT_REPOSITORY):
        with pytest.raises(ClusterRefuses, match=f'"{kind.plural}"'):
            reached.merge(kind, "another", {"metadata": {}})
        with pytest.raises(ClusterRefuses, match=f'"{kind.plural}"'):
            reached.list(kind)


@pytest.mark.parametrize("router", ROUTERS)
def test_without_flux_the_runner_brings_all_that_git_has_and_takes_it_away(
    cluster: Cluster, tmp_path: Path, router: str
) -> None:
    environment = new_environment(cluster, tmp_path, router, "apply")
    known_ones = [each for each in environment.brought if plural(environment, each)]
    runner = environment.by(RUNNER)
    for objects in (known_ones, known_ones, []):
        ApplyReconciler(runner, "m", lambda _, objects=objects: objects).reconcile(slots({}))
    assert cluster.list(DEPLOYMENT) == []


# --- Flux as the reconciler --------------------------------------------------------------


@pytest.fixture
def place(environments: Callable[[str], Environment], tmp_path: Path) -> Iterator[FluxPlace]:
    """Flux applies what is pushed with the rights of the reconciler."""
    with flux_place(environments("gateway_api").admin, tmp_path) as made:
        made.change(KUSTOMIZATION, {"serviceAccountName": RECONCILER, "targetNamespace": None})
        yield made
        for kind in (KUSTOMIZATION, GIT_REPOSITORY):
            made.cluster.delete(kind, "coalmine")


def said_by_flux(place: FluxPlace, thing: Json) -> str:
    """What Flux says of a commit that holds `thing`, once it has tried it."""
    commit = place.push(files_of([thing]))
    place.cluster.merge(GIT_REPOSITORY, "coalmine", look_again(commit))
    routed.eventually(lambda: commit in fetched(place), "Flux has fetched", 40)
    place.cluster.merge(KUSTOMIZATION, "coalmine", look_again(commit))
    said: list[str] = []

    def has_tried() -> bool:
        # read once: Flux may be at work again a moment later, and then says that instead
        status = status_of(place, KUSTOMIZATION)
        if commit not in status.get("lastAttemptedRevision", ""):
            return False
        ready = next(each for each in status["conditions"] if each["type"] == "Ready")
        said.append(ready["message"])
        return bool(ready["status"] != "Unknown")

    routed.eventually(has_tried, "Flux has tried", 40)
    return said[-1]


def look_again(asked_at: str) -> Json:
    return {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": asked_at}}}


def fetched(place: FluxPlace) -> str:
    return str(status_of(place, GIT_REPOSITORY).get("artifact", {}).get("revision", ""))


def status_of(place: FluxPlace, kind: Kind) -> Json:
    status: Json = (place.cluster.get(kind, "coalmine") or {}).get("status", {})
    return status


def test_flux_brings_and_takes_away_what_the_reconciler_may_and_nothing_else(
    environments: Callable[[str], Environment], place: FluxPlace
) -> None:
    here, there = place.cluster.namespace, environments("istio").admin.namespace
    good = named("ConfigMap", "brought", here)
    assert said_by_flux(place, good).startswith("Applied revision")
    assert place.cluster.get(CONFIG_MAP, "brought") is not None
    assert said_by_flux(place, named("ConfigMap", "other", here)).startswith("Applied revision")
    assert place.cluster.get(CONFIG_MAP, "brought") is None
    for thing, kind in (
        (named("ConfigMap", "mine", there), "configmaps"),
        (named("Secret", "s", here), "secrets"),
    ):
        said = said_by_flux(place, thing)
        assert f"system:serviceaccount:{here}:{RECONCILER}" in said
        assert f'resource "{kind}"' in said


def named(kind: str, name: str, namespace: str) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
