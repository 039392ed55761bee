"""The router of a cluster before an API server that is simulated: what it writes, whom it gives way to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from coalmine.cluster.client import ClusterRefuses
from coalmine.cluster.kinds import HTTP_ROUTE, SERVICE_PROFILE
from coalmine.errors import RouteConflict, RouterUnavailable, Unsupported
from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.routers import cluster_route
from coalmine.routers.appmesh import APP_MESH
from coalmine.routers.cluster_route import ClusterRouter
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.routers.hands import RESTORED_AFTER, SPLIT, TAKEN
from coalmine.routers.istio import ISTIO
from coalmine.routers.linkerd import LINKERD
from coalmine.routers.technology import Json, Technology
from coalmine.slots import Slot
from tests.contracts.router import RouterContract
from tests.routers.fake_cluster import FakeCluster

FLUX = "kustomize-controller"
FIVE = TrafficSplit.canary(Slot.GREEN, 5)


def accept(route: Json) -> None:
    """As the controller of each technology does."""
    generation = route["metadata"]["generation"]
    match route["kind"]:
        case "HTTPRoute":
            conditions = [
                {"type": kind, "status": "True", "reason": "Fine", "observedGeneration": generation}
                for kind in ("Accepted", "ResolvedRefs")
            ]
            parents = [{"parentRef": each, "conditions": conditions} for each in route["spec"]["parentRefs"]]
            route["status"] = {"parents": parents}
        case "VirtualRouter":
            active = {"type": "VirtualRouterActive", "status": "True"}
            route["status"] = {"observedGeneration": generation, "conditions": [active]}


def refuse(route: Json) -> None:
    accept(route)
    condition = route["status"]["parents"][0]["conditions"][0]
    condition |= {"status": "False", "reason": "NotAllowed", "message": "another namespace"}


def http_route(model: str, blue: int = 0, green: int = 0) -> Json:
    refs = [
        {"name": f"{model}-blue", "port": 80, "weight": blue},
        {"name": f"{model}-green", "port": 80, "weight": green},
    ]
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": f"{model}-route"},
        "spec": {"parentRefs": [{"name": "gate"}], "rules": [{"backendRefs": refs}]},
    }


def virtual_service(model: str) -> Json:
    route = [{"destination": {"host": f"{model}-{slot}"}, "weight": 0} for slot in Slot]
    return {
        "kind": "VirtualService",
        "metadata": {"name": f"{model}-route"},
        "spec": {"hosts": ["m"], "http": [{"route": route}]},
    }


def virtual_router(model: str) -> Json:
    targets = [{"virtualNodeRef": {"name": f"{model}-{slot}"}, "weight": 0} for slot in Slot]
    http = {"match": {"prefix": "/"}, "action": {"weightedTargets": targets}}
    return {
        "kind": "VirtualRouter",
        "metadata": {"name": f"{model}-route"},
        "spec": {"routes": [{"name": "users", "httpRoute": http}]},
    }


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(accept)


class KeepsTheContract(RouterContract):
    technology: Technology
    route: Callable[[str], Json]

    @pytest.fixture
    def router(self, cluster: FakeCluster) -> ClusterRouter:
        return self._router(cluster, "m")

    @pytest.fixture
    def neighbour(self, cluster: FakeCluster) -> ClusterRouter:
        return self._router(cluster, "neighbour")

    @pytest.fixture
    def cut(self, cluster: FakeCluster) -> Callable[[], None]:
        def cut() -> None:
            cluster.down = True

        return cut

    def _router(self, cluster: FakeCluster, model: str) -> ClusterRouter:
        cluster.put(self.technology.kind, type(self).route(model), FLUX)
        return ClusterRouter(cluster, model, self.technology)


class TestGatewayApiKeepsTheContract(KeepsTheContract):
    technology = GATEWAY_API
    route = http_route


class TestIstioKeepsTheContract(KeepsTheContract):
    technology = ISTIO
    route = virtual_service


class TestLinkerdKeepsTheContract(KeepsTheContract):
    technology = LINKERD
    route = http_route


class TestAppMeshKeepsTheContract(KeepsTheContract):
    technology = APP_MESH
    route = virtual_router


# --- the route is taken and given back --------------------------------------------------


@pytest.fixture
def router(cluster: FakeCluster) -> ClusterRouter:
    cluster.put(HTTP_ROUTE, http_route("m", 100, 0), FLUX)
    return ClusterRouter(cluster, "m", GATEWAY_API)


def the_route(cluster: FakeCluster) -> Json:
    route = cluster.get(HTTP_ROUTE, "m-route")
    assert route is not None
    return route


def notes(cluster: FakeCluster) -> dict[str, str]:
    return dict(the_route(cluster)["metadata"].get("annotations", {}))


def test_the_route_is_taken_from_flux_in_the_same_write_as_the_first_split(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    before = cluster.writes
    router.set_split(FIVE)
    assert cluster.writes == before + 1
    assert notes(cluster)[TAKEN] == "disabled"


def test_to_look_at_the_route_writes_nothing(cluster: FakeCluster, router: ClusterRouter) -> None:
    before = cluster.writes
    assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)
    assert cluster.writes == before


def test_the_same_split_again_writes_nothing(cluster: FakeCluster, router: ClusterRouter) -> None:
    router.set_split(FIVE)
    before = cluster.writes
    router.set_split(FIVE)
    assert cluster.writes == before


def test_a_rule_of_chosen_users_takes_nobody_for_a_moment_when_it_comes_and_before_it_goes(
    router: ClusterRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stable = TrafficSplit.all_to(Slot.BLUE)
    chosen = replace(stable, match=Match(UserKey("header", "x-group"), "beta"), match_to=Slot.GREEN)
    between: list[tuple[float, TrafficSplit | None]] = []
    monkeypatch.setattr(
        cluster_route.time, "sleep", lambda seconds: between.append((seconds, router.observed_split()))
    )
    nobody = replace(chosen, match=cluster_route.NOBODY)
    router.set_split(chosen)
    router.set_split(chosen)
    assert between == [(cluster_route.REACHES_PROXIES_S, nobody)]
    router.set_split(stable)
    assert between[1:] == [(cluster_route.REACHES_PROXIES_S, replace(nobody, match_to=min(Slot)))]
    assert router.observed_split() == stable


def test_nothing_of_the_rollout_is_left_on_a_route_that_was_given_back(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    before = the_route(cluster)
    before["metadata"]["annotations"] = {"team": "risk"}
    cluster.put(HTTP_ROUTE, before, FLUX)
    router.set_split(FIVE)
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    router.give_back()
    assert notes(cluster) == {"team": "risk"}
    assert the_route(cluster)["spec"] == before["spec"]


def test_a_route_that_people_keep_from_flux_themselves_stays_so(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    route = the_route(cluster)
    route["metadata"]["annotations"] = {TAKEN: "disabled"}
    cluster.put(HTTP_ROUTE, route, "kubectl-edit")
    router.give_back()
    assert notes(cluster) == {TAKEN: "disabled"}


def test_giving_back_a_route_that_is_gone_is_done_already(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    cluster.objects.clear()
    router.give_back()


# --- others write too -------------------------------------------------------------------


def edit(cluster: FakeCluster, manager: str, blue: int, green: int, **more: Any) -> None:
    route = the_route(cluster)
    weights = iter((blue, green))
    for ref in route["spec"]["rules"][-1]["backendRefs"]:
        ref["weight"] = next(weights)
    route["spec"]["rules"][-1] |= more
    cluster.put(HTTP_ROUTE, route, manager)


def test_a_write_that_comes_first_is_kept_and_ours_made_upon_it(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    cluster.before_a_write = lambda: edit(cluster, "kubectl-edit", 100, 0, timeouts={"request": "9s"})
    router.set_split(FIVE)
    assert router.observed_split() == FIVE
    assert the_route(cluster)["spec"]["rules"][-1]["timeouts"] == {"request": "9s"}


def test_a_route_that_is_written_without_end_is_unavailable(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    def again() -> None:
        edit(cluster, "busy", 100, 0)
        cluster.before_a_write = again

    cluster.before_a_write = again
    with pytest.raises(RouterUnavailable, match="5 times"):
        router.set_split(FIVE)


def test_an_edit_of_the_weights_is_seen_as_it_is_and_set_back_once(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    router.set_split(FIVE)
    edit(cluster, "kubectl-edit", 40, 60)
    assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 60)
    router.set_split(FIVE)
    assert router.observed_split() == FIVE
    assert notes(cluster)[RESTORED_AFTER] == "kubectl-edit"


def test_who_moves_the_route_again_after_it_was_set_back_is_not_fought(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    router.set_split(FIVE)
    edit(cluster, "kubectl-edit", 40, 60)
    router.set_split(FIVE)
    edit(cluster, "kubectl-edit", 40, 60)
    # Another process than the one that set it back.
    router = ClusterRouter(cluster, "m", GATEWAY_API)
    before = cluster.writes
    for _ in range(2):
        with pytest.raises(RouteConflict, match="kubectl-edit"):
            router.set_split(FIVE)
        with pytest.raises(RouteConflict, match="kubectl-edit"):
            router.observed_split()
    assert cluster.writes == before


def test_what_a_conflict_says_to_do_ends_it(cluster: FakeCluster, router: ClusterRouter) -> None:
    router.set_split(FIVE)
    for _ in range(2):
        edit(cluster, "kubectl-edit", 40, 60)
        if notes(cluster).get(RESTORED_AFTER) is None:
            router.set_split(FIVE)
    with pytest.raises(RouteConflict, match=f"{RESTORED_AFTER}-$"):
        router.set_split(FIVE)
    route = the_route(cluster)
    del route["metadata"]["annotations"][RESTORED_AFTER]
    cluster.put(HTTP_ROUTE, route, "kubectl-annotate")
    router.set_split(FIVE)
    assert router.observed_split() == FIVE


def test_the_hand_that_undoes_its_change_is_forgiven(cluster: FakeCluster, router: ClusterRouter) -> None:
    router.set_split(FIVE)
    edit(cluster, "kubectl-edit", 40, 60)
    router.set_split(FIVE)
    edit(cluster, "kubectl-edit", 40, 60)
    edit(cluster, "kubectl-edit", 95, 5)
    assert router.observed_split() == FIVE
    router.set_split(TrafficSplit.canary(Slot.GREEN, 25))
    assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 25)


def test_an_edit_of_something_else_is_nobodys_fight(cluster: FakeCluster, router: ClusterRouter) -> None:
    for percent in (5, 25, 50):
        router.set_split(TrafficSplit.canary(Slot.GREEN, percent))
        edit(cluster, "kubectl-edit", 100 - percent, percent, timeouts={"request": f"{percent}s"})
        assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, percent)
    assert RESTORED_AFTER not in notes(cluster)


def test_an_edit_into_no_split_is_a_conflict_that_the_next_split_mends(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    router.set_split(FIVE)
    edit(cluster, "kubectl-edit", 2, 1)
    with pytest.raises(RouteConflict, match="no whole percent"):
        router.observed_split()
    router.set_split(FIVE)
    assert router.observed_split() == FIVE


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("controller", [accept, refuse])
def test_a_route_that_leads_to_neither_slot_is_a_conflict_accepted_or_not(
    cluster: FakeCluster, controller: Callable[[Json], None]
) -> None:
    cluster.controller = controller
    cluster.put(HTTP_ROUTE, http_route("other") | {"metadata": {"name": "m-route"}}, FLUX)
    router = ClusterRouter(cluster, "m", GATEWAY_API)
    for act in (router.observed_split, lambda: router.set_split(FIVE)):
        with pytest.raises(RouteConflict, match="m-blue and m-green"):
            act()


def test_flux_is_no_foreign_hand_on_a_route_at_rest(cluster: FakeCluster, router: ClusterRouter) -> None:
    for stable in (Slot.BLUE, Slot.GREEN, Slot.BLUE):
        edit(cluster, FLUX, *([100, 0] if stable is Slot.BLUE else [0, 100]))
        router.set_split(TrafficSplit.canary(stable.other, 5))
        router.set_split(TrafficSplit.all_to(stable.other))
        router.give_back()


@pytest.mark.parametrize("manager", ["flagger", "rollouts-controller", "gatewayAPI"])
def test_another_rollout_controller_on_the_rules_is_a_conflict_at_once(
    cluster: FakeCluster, router: ClusterRouter, manager: str
) -> None:
    edit(cluster, manager, 90, 10)
    for act in (router.observed_split, lambda: router.set_split(FIVE)):
        with pytest.raises(RouteConflict, match=f"belongs to {manager}"):
            act()


def test_a_rollout_controller_that_others_have_written_over_is_history(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    edit(cluster, "flagger", 90, 10)
    edit(cluster, FLUX, 100, 0)
    router.set_split(FIVE)
    assert router.observed_split() == FIVE


def test_a_rollout_controller_that_left_what_flux_wants_is_history(cluster: FakeCluster) -> None:
    cluster.put(HTTP_ROUTE, http_route("m", 100, 0), "flagger")
    cluster.put(HTTP_ROUTE, http_route("m", 100, 0), FLUX, applies=True)
    router = ClusterRouter(cluster, "m", GATEWAY_API)
    router.set_split(FIVE)
    assert router.observed_split() == FIVE


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        (
            {"ownerReferences": [{"kind": "Canary", "name": "podinfo", "controller": True}]},
            "Canary podinfo",
        ),
        ({"labels": {"rollouts.argoproj.io/gatewayapi-canary": "in-progress"}}, "Argo Rollouts"),
    ],
)
def test_a_route_that_another_controller_made_or_moves_is_a_conflict_at_once(
    cluster: FakeCluster, metadata: Json, named: str
) -> None:
    route = http_route("m", 100, 0)
    route["metadata"] |= metadata
    cluster.put(HTTP_ROUTE, route, FLUX)
    router = ClusterRouter(cluster, "m", GATEWAY_API)
    for act in (router.observed_split, lambda: router.set_split(FIVE)):
        with pytest.raises(RouteConflict, match=f"belongs to {named}"):
            act()


def test_an_owner_that_controls_nothing_is_none(cluster: FakeCluster) -> None:
    route = http_route("m", 100, 0)
    route["metadata"]["ownerReferences"] = [{"kind": "Application", "name": "shop"}]
    cluster.put(HTTP_ROUTE, route, FLUX)
    ClusterRouter(cluster, "m", GATEWAY_API).set_split(FIVE)


def test_a_service_profile_that_shadows_linkerds_route_is_a_conflict_by_name(cluster: FakeCluster) -> None:
    cluster.put(HTTP_ROUTE, http_route("m", 100, 0), FLUX)
    router = ClusterRouter(cluster, "m", LINKERD)
    name = "m-apex.shop.svc.cluster.local"
    other = {"kind": "ServiceProfile", "metadata": {"name": "n-apex.shop.svc.cluster.local"}, "spec": {}}
    cluster.put(SERVICE_PROFILE, other, FLUX)
    router.set_split(FIVE)
    cluster.put(SERVICE_PROFILE, {**other, "metadata": {"name": name}}, FLUX)
    for act in (router.observed_split, lambda: router.set_split(FIVE)):
        with pytest.raises(RouteConflict, match=f"ServiceProfile {name}"):
            act()


# --- the data plane -----------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_route, "TAKEN_UP_WITHIN_S", 0.3)


@pytest.mark.parametrize("at_first", [lambda _: None, refuse], ids=["unsaid", "refused"])
def test_a_split_is_set_once_the_controller_has_accepted_it(
    cluster: FakeCluster,
    router: ClusterRouter,
    monkeypatch: pytest.MonkeyPatch,
    at_first: Callable[[Json], None],
) -> None:
    cluster.controller = at_first
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            accept(cluster.objects["HTTPRoute", "m-route"])

    monkeypatch.setattr(cluster_route, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    router.set_split(FIVE)
    assert len(waited) == 3
    assert router.observed_split() == FIVE


@pytest.mark.usefixtures("impatient")
def test_a_split_that_no_controller_looks_at_is_unavailable_and_not_observed(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    cluster.controller = lambda _: None
    with pytest.raises(RouterUnavailable, match="not taken up within"):
        router.set_split(FIVE)
    with pytest.raises(RouterUnavailable, match="not taken up within"):
        router.observed_split()


@pytest.mark.usefixtures("impatient")
def test_a_split_that_the_controller_refuses_is_said_in_its_words(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    cluster.controller = refuse
    for act in (lambda: router.set_split(FIVE), router.observed_split):
        with pytest.raises(
            RouterUnavailable, match=r"refused.*Accepted False, NotAllowed: another namespace"
        ):
            act()


def test_a_route_that_is_gone_says_what_brings_it_back_and_the_rollout_goes_on_when_it_does(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    router.set_split(FIVE)
    cluster.objects.clear()
    for act in (lambda: router.set_split(FIVE), router.observed_split):
        with pytest.raises(
            RouterUnavailable, match=r"m-route in namespace shop is not there.*flux reconcile"
        ):
            act()
    cluster.put(HTTP_ROUTE, http_route("m", 100, 0), FLUX)
    assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)
    router.set_split(FIVE)
    assert router.observed_split() == FIVE
    assert notes(cluster)[TAKEN] == "disabled"


def test_what_the_api_server_forbids_is_said_in_its_words(
    cluster: FakeCluster, router: ClusterRouter
) -> None:
    cluster.fault = ClusterRefuses("httproutes is forbidden: User alice cannot update")
    for act in (lambda: router.set_split(FIVE), router.observed_split, router.give_back):
        with pytest.raises(RouterUnavailable, match="User alice cannot update"):
            act()


def test_copies_while_both_slots_have_users_are_unsupported(router: ClusterRouter) -> None:
    with pytest.raises(Unsupported, match="stage of its own"):
        router.set_split(TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50}, mirror_percent=10))


@pytest.mark.usefixtures("router")
def test_what_is_unsupported_writes_nothing(cluster: FakeCluster) -> None:
    before = cluster.writes
    with pytest.raises(Unsupported):
        ClusterRouter(cluster, "m", LINKERD).set_split(
            TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=10)
        )
    assert cluster.writes == before
    assert SPLIT not in notes(cluster)
