"""The four routers before a real API server, with the objects that their components make.

Envoy Gateway says itself what it makes of an HTTPRoute. Linkerd and App Mesh run on no test cluster: there
the test plays the controller (`PlayedController`), which says what their sources say.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from coalmine.cluster.client import Cluster, ClusterRefuses
from coalmine.cluster.kinds import GIT_REPOSITORY, HTTP_ROUTE, KUSTOMIZATION, SERVICE_PROFILE
from coalmine.errors import RouteConflict, RouterUnavailable
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers.appmesh import APP_MESH
from coalmine.routers.cluster_route import ClusterRouter, route_name
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.routers.hands import RESTORED_AFTER, TAKEN
from coalmine.routers.istio import ISTIO
from coalmine.routers.linkerd import LINKERD
from coalmine.routers.technology import Json, Technology
from coalmine.slots import Slot
from tests.cluster import routed
from tests.cluster.flux_place import FLUX, FluxPlace, flux_place
from tests.cluster.front_doors import gateway_address
from tests.contracts.router import RouterContract

FIVE = TrafficSplit.canary(Slot.GREEN, 5)
TECHNOLOGIES = [
    pytest.param(technology, id=technology.component)
    for technology in (GATEWAY_API, ISTIO, LINKERD, APP_MESH)
]


class PlayedController:
    """Plays the controller that a technology would have: accepts each version of a route a moment later."""

    def __init__(self, cluster: Cluster, technology: Technology) -> None:
        self._cluster = cluster
        self._technology = technology
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _play(self) -> None:
        while not self._over.wait(0.05):
            for route in self._cluster.list(self._technology.kind):
                if (
                    self._technology.not_in_force(route) is not None
                    and "deletionTimestamp" not in route["metadata"]
                ):
                    routed.say_status(
                        self._cluster,
                        self._technology.kind,
                        route["metadata"]["name"],
                        self._accepting(route),
                    )

    def _accepting(self, route: Json) -> Json:
        now = {"lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""}
        if self._technology is APP_MESH:
            active = {"type": "VirtualRouterActive", "status": "True", **now}
            return {"observedGeneration": route["metadata"]["generation"], "conditions": [active]}
        # Linkerd names no version.
        conditions = [
            {"type": kind, "status": "True", "reason": kind, **now} for kind in ("Accepted", "ResolvedRefs")
        ]
        who = "linkerd.io/policy-controller"
        parents = [
            {"parentRef": parent, "controllerName": who, "conditions": conditions}
            for parent in route["spec"]["parentRefs"]
        ]
        return {"parents": parents}


class Shop:
    """One namespace in which a technology routes any number of models."""

    def __init__(self, cluster: Cluster, technology: Technology, folder: Path) -> None:
        self.cluster = cluster
        self.technology = technology
        self._folder = folder

    def model(self, stable: Slot | None = None) -> str:
        """The name of a model whose objects are there, as Flux puts them."""
        name = f"m{secrets.token_hex(3)}"
        routed.apply(self.objects(name, stable))
        return name

    def objects(self, model: str, stable: Slot | None) -> list[Json]:
        objects = routed.built(self._folder, self.technology, model, self.cluster.namespace, stable)
        route = routed.route_in(objects, self.technology)
        if self.technology is GATEWAY_API:
            route["spec"]["parentRefs"] = [{"name": "users"}]
            # Two routes of the same host and path would be one route's.
            route["spec"]["hostnames"] = [f"{model}.example.com"]
        if self.technology is ISTIO:
            route["spec"] |= {"gateways": ["users"], "hosts": [f"{model}.example.com"]}
        return objects

    def router(self, model: str) -> ClusterRouter:
        """With a connection of its own."""
        return ClusterRouter(Cluster.connect(self.cluster.namespace), model, self.technology)

    def route(self, model: str) -> Json:
        route = self.cluster.get(self.technology.kind, route_name(model))
        assert route is not None
        return route

    def move(self, model: str, split: TrafficSplit, manager: str) -> None:
        """The route as `manager` would have it, by server-side apply as everybody has it today."""
        moved = self.technology.with_split(self.route(model), model, split)
        kind = self.technology.kind
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": route_name(model), "namespace": self.cluster.namespace},
            "spec": moved["spec"],
        }
        routed.apply([body], manager)


def shop_of(any_cluster: Cluster, technology: Technology, folder: Path) -> Iterator[Shop]:
    routed.require(any_cluster, technology.kind)
    with routed.namespace(any_cluster) as cluster:
        if technology is GATEWAY_API:
            gateway_address(cluster)
        played = PlayedController(cluster, technology) if technology in (LINKERD, APP_MESH) else None
        yield Shop(cluster, technology, folder)
        if played is not None:
            played.stop()


class KeepsTheContract(RouterContract):
    technology: Technology

    @pytest.fixture(scope="class")
    @classmethod
    def shop(cls, any_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
        yield from shop_of(any_cluster, cls.technology, tmp_path_factory.mktemp("k8s"))

    @pytest.fixture
    def router(self, shop: Shop) -> ClusterRouter:
        return shop.router(shop.model())

    @pytest.fixture
    def neighbour(self, shop: Shop) -> ClusterRouter:
        return shop.router(shop.model())

    @pytest.fixture
    def cut(self, router: ClusterRouter) -> Callable[[], None]:
        def cut() -> None:
            nowhere = client.Configuration(host="https://127.0.0.1:9")
            nowhere.retries = False
            router._cluster = Cluster(client.ApiClient(nowhere), router._cluster.namespace)

        return cut


class TestGatewayApiKeepsTheContract(KeepsTheContract):
    technology = GATEWAY_API


class TestIstioKeepsTheContract(KeepsTheContract):
    technology = ISTIO


class TestLinkerdKeepsTheContract(KeepsTheContract):
    technology = LINKERD


class TestAppMeshKeepsTheContract(KeepsTheContract):
    technology = APP_MESH


# --- components ------------------------------------------------------------------------


@pytest.mark.parametrize("stable", [None, Slot.BLUE, Slot.GREEN])
@pytest.mark.parametrize("technology", TECHNOLOGIES)
def test_what_a_component_makes_is_taken_by_the_api_server_and_sends_users_where_the_slots_say(
    cluster: Cluster, tmp_path: Path, technology: Technology, stable: Slot | None
) -> None:
    routed.require(cluster, technology.kind)
    objects = routed.built(tmp_path, technology, "m", cluster.namespace, stable)
    routed.apply(objects)
    route = cluster.get(technology.kind, "m-route")
    assert route is not None
    assert technology.split_of(route, "m") == (None if stable is None else TrafficSplit.all_to(stable))


@pytest.mark.parametrize(("technology", "retries"), [(ISTIO, {"attempts": 0}), (APP_MESH, {"maxRetries": 0})])
def test_where_a_mesh_would_try_again_by_itself_a_component_says_not_to(
    tmp_path: Path, technology: Technology, retries: Json
) -> None:
    objects = routed.built(tmp_path, technology, "m", "shop", Slot.BLUE)
    route = routed.route_in(objects, technology)
    for rule in route["spec"][technology.rules_in]:
        said = rule["retries"] if technology is ISTIO else rule["httpRoute"]["retryPolicy"]
        assert said.items() >= retries.items()


# --- other hands -----------------------------------------------------------------------


@pytest.fixture(scope="module", params=TECHNOLOGIES)
def shop(
    any_cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    yield from shop_of(any_cluster, request.param, tmp_path_factory.mktemp("k8s"))


def test_the_route_is_fluxs_again_after_the_rollout_and_shows_nothing_of_it(shop: Shop) -> None:
    model = shop.model(Slot.BLUE)
    before = shop.route(model)
    router = shop.router(model)
    router.set_split(FIVE)
    assert shop.route(model)["metadata"]["annotations"][TAKEN] == "disabled"
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    router.give_back()
    routed.apply(shop.objects(model, Slot.GREEN))
    after = shop.route(model)
    assert after["metadata"].get("annotations") == before["metadata"].get("annotations")
    assert router.observed_split() == TrafficSplit.all_to(Slot.GREEN)
    router.set_split(TrafficSplit.canary(Slot.BLUE, 5))
    assert router.observed_split() == TrafficSplit.canary(Slot.BLUE, 5)


def test_a_hand_that_moves_the_route_is_set_back_once_and_then_named(shop: Shop) -> None:
    model = shop.model(Slot.BLUE)
    router = shop.router(model)
    router.set_split(FIVE)
    shop.move(model, TrafficSplit.canary(Slot.GREEN, 60), "kubectl-edit")
    assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 60)
    router.set_split(FIVE)
    assert router.observed_split() == FIVE
    shop.move(model, TrafficSplit.canary(Slot.GREEN, 60), "kubectl-edit")
    for act in (router.observed_split, lambda: router.set_split(FIVE)):
        with pytest.raises(RouteConflict, match="moved by kubectl-edit again"):
            act()
    annotated = {"metadata": {"annotations": {RESTORED_AFTER: None}}}
    shop.cluster.merge(shop.technology.kind, route_name(model), annotated)
    router.set_split(FIVE)
    assert router.observed_split() == FIVE


def test_another_rollout_controller_on_the_route_is_named_at_once(shop: Shop) -> None:
    model = shop.model(Slot.BLUE)
    shop.move(model, TrafficSplit.canary(Slot.GREEN, 20), "flagger")
    with pytest.raises(RouteConflict, match="belongs to flagger"):
        shop.router(model).set_split(FIVE)


def test_a_route_that_is_gone_is_waited_for(shop: Shop) -> None:
    model = shop.model(Slot.BLUE)
    router = shop.router(model)
    router.set_split(FIVE)
    shop.cluster.delete(shop.technology.kind, route_name(model))
    routed.eventually(
        lambda: shop.cluster.get(shop.technology.kind, route_name(model)) is None, "the route is gone"
    )
    with pytest.raises(RouterUnavailable, match=f"{route_name(model)} in namespace .* is not there"):
        router.observed_split()
    routed.apply(shop.objects(model, Slot.BLUE))
    assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)
    router.set_split(FIVE)
    assert router.observed_split() == FIVE


def test_a_profile_that_shadows_linkerds_route_is_named(cluster: Cluster, tmp_path: Path) -> None:
    routed.require(cluster, SERVICE_PROFILE)
    routed.apply(routed.built(tmp_path, LINKERD, "m", cluster.namespace, Slot.BLUE))
    name = f"m-apex.{cluster.namespace}.svc.cluster.local"
    profile = {
        "apiVersion": SERVICE_PROFILE.api_version,
        "kind": SERVICE_PROFILE.kind,
        "metadata": {"name": name},
        "spec": {"routes": []},
    }
    cluster.create(SERVICE_PROFILE, profile)
    with pytest.raises(RouteConflict, match=name):
        ClusterRouter(cluster, "m", LINKERD).observed_split()


# --- Flux ------------------------------------------------------------------------------


@pytest.fixture
def flux(cluster: Cluster, tmp_path: Path) -> Iterator[FluxPlace]:
    with flux_place(cluster, tmp_path) as place:
        yield place


def publish(place: FluxPlace, tmp_path: Path, stable: Slot, note: str) -> None:
    """The route with everybody on `stable`, by Flux, which is waited for. note: by which versions differ."""
    (tmp_path / "k8s").mkdir(exist_ok=True)
    objects = routed.built(tmp_path / "k8s", ISTIO, "m", place.cluster.namespace, stable)
    for each in objects:
        each["metadata"].setdefault("labels", {})["note"] = note
    kustomization = yaml.safe_dump({"resources": ["objects.yaml"]})
    commit = place.push({"kustomization.yaml": kustomization, "objects.yaml": yaml.safe_dump_all(objects)})
    routed.eventually(lambda: _applied(place, commit), "Flux has applied the commit", 30)


def _applied(place: FluxPlace, commit: str) -> bool:
    for kind in (GIT_REPOSITORY, KUSTOMIZATION):
        now = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": str(time.time())}}}
        place.cluster.merge(kind, FLUX.kustomization, now)
    time.sleep(0.5)
    found = place.cluster.get(KUSTOMIZATION, FLUX.kustomization) or {}
    return str(found.get("status", {}).get("lastAppliedRevision", "")).endswith(commit)


def test_flux_keeps_its_hands_off_the_route_from_the_first_split_until_it_is_given_back(
    flux: FluxPlace, tmp_path: Path
) -> None:
    publish(flux, tmp_path, Slot.BLUE, "first")
    router = ClusterRouter(flux.cluster, "m", ISTIO)
    assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)
    router.set_split(FIVE)
    publish(flux, tmp_path, Slot.BLUE, "second")
    assert router.observed_split() == FIVE
    router.set_split(TrafficSplit.all_to(Slot.GREEN))
    publish(flux, tmp_path, Slot.GREEN, "third")
    router.give_back()
    assert router.observed_split() == TrafficSplit.all_to(Slot.GREEN)
    publish(flux, tmp_path, Slot.BLUE, "fourth")
    assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)


# --- what Envoy Gateway says -------------------------------------------------------------


@pytest.fixture(scope="module")
def envoy_gateway(any_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    yield from shop_of(any_cluster, GATEWAY_API, tmp_path_factory.mktemp("k8s"))


def test_a_route_whose_services_are_missing_is_refused_in_the_controllers_words(envoy_gateway: Shop) -> None:
    model = f"m{secrets.token_hex(3)}"
    objects = envoy_gateway.objects(model, Slot.BLUE)
    routed.apply([routed.route_in(objects, GATEWAY_API)])
    with pytest.raises(RouterUnavailable, match=r"refused.*ResolvedRefs False"):
        envoy_gateway.router(model).set_split(FIVE)


def test_a_route_of_a_gateway_that_is_not_there_is_not_taken_up(
    envoy_gateway: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coalmine.routers.cluster_route.TAKEN_UP_WITHIN_S", 1.0)
    model = f"m{secrets.token_hex(3)}"
    objects = envoy_gateway.objects(model, Slot.BLUE)
    routed.route_in(objects, GATEWAY_API)["spec"]["parentRefs"] = [{"name": "elsewhere"}]
    routed.apply(objects)
    with pytest.raises(RouterUnavailable, match="Gateway elsewhere"):
        envoy_gateway.router(model).set_split(FIVE)


def test_what_people_set_in_the_route_outlives_a_rollout(envoy_gateway: Shop) -> None:
    model = f"m{secrets.token_hex(3)}"
    objects = envoy_gateway.objects(model, Slot.BLUE)
    rules = routed.route_in(objects, GATEWAY_API)["spec"]["rules"]
    rules[2] |= {
        "timeouts": {"request": "7s"},
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]},
            }
        ],
    }
    rules.append(
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}],
            "backendRefs": [{"name": f"{model}-blue", "port": 80}],
        }
    )
    routed.apply(objects)
    before = envoy_gateway.route(model)["spec"]
    router = envoy_gateway.router(model)
    router.set_split(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=5))
    router.set_split(TrafficSplit.canary(Slot.GREEN, 5))
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    router.give_back()
    assert envoy_gateway.route(model)["spec"] == before


def test_a_field_that_the_cluster_does_not_know_is_refused_and_not_dropped(envoy_gateway: Shop) -> None:
    model = envoy_gateway.model(Slot.BLUE)
    route = envoy_gateway.route(model)
    route["spec"]["rules"][2]["filters"] = [
        {
            "type": "RequestMirror",
            "requestMirror": {"backendRef": {"name": f"{model}-green", "port": 80}, "share": 5},
        }
    ]
    with pytest.raises(ClusterRefuses, match="unknown field"):
        envoy_gateway.cluster.replace(HTTP_ROUTE, route)
