from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coalmine.cluster.kinds import CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE, SERVICE, Kind
from coalmine.errors import (
    Conflict,
    IntegrityError,
    ReconcilerUnavailable,
    SpecError,
    Unsupported,
)
from coalmine.reconcilers.apply import ApplyReconciler
from coalmine.reconcilers.deployed import digests_of
from coalmine.slots import Slot, Slots
from tests.contracts.reconciler import BETTER, GOOD, slots
from tests.reconcilers.api_server import ApiServer, api_server, path_of

Json = dict[str, Any]

BOTH = slots({Slot.BLUE: GOOD, Slot.GREEN: BETTER})
BLUE_ALONE = slots({Slot.BLUE: GOOD})
BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
HANDS_OFF = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
OF_BLUE = {"PodDisruptionBudget/m-blue", "ConfigMap/m-blue", "Deployment/m-blue"}
OF_GREEN = {name.replace("blue", "green") for name in OF_BLUE}
ALWAYS = {"Service/m-blue", "Service/m-green", "HTTPRoute/m-route", "ConfigMap/m-inventory"}


def objects_of(slots: Slots) -> list[Json]:
    """In an order that would not do."""
    made = [thing(HTTP_ROUTE, "m-route", spec={"rules": []})]
    for slot, digest in digests_of(slots).items():
        made.append(thing(SERVICE, f"m-{slot}", spec={"ports": []}))
        if digest is not None:
            template = {"metadata": {"annotations": {"coalmine.dev/digest": digest}}}
            made.append(thing(BUDGET, f"m-{slot}", spec={"maxUnavailable": 1}))
            made.append(thing(DEPLOYMENT, f"m-{slot}", spec={"template": template}))
            made.append(thing(CONFIG_MAP, f"m-{slot}", data={"manifest.yaml": digest}))
    return made


def thing(kind: Kind, name: str, **content: Any) -> Json:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, **content}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as served:
        yield served


def reconciler(server: ApiServer, *more: Json) -> ApplyReconciler:
    return ApplyReconciler(server.cluster(), "m", lambda wanted: [*objects_of(wanted), *more])


# --- what is made, and in which order --------------------------------------------------


def test_what_others_need_is_there_before_them(server: ApiServer) -> None:
    reconciler(server).reconcile(BLUE_ALONE)
    kinds = [each.split("/")[1] for each in server.writes() if "inventory" not in each]
    needed = ["configmaps", "services", "services", "deployments", "httproutes", "poddisruptionbudgets"]
    assert kinds == needed


def test_a_slot_that_is_emptied_goes_with_all_that_was_made_for_it(server: ApiServer) -> None:
    reconciler(server).reconcile(BOTH)
    assert server.names() == ALWAYS | OF_BLUE | OF_GREEN
    server.asked.clear()
    reconciler(server).reconcile(BLUE_ALONE)
    assert server.names() == ALWAYS | OF_BLUE
    deleted = [each.split("/")[1] for each in server.writes() if each.startswith("DELETE")]
    assert deleted == ["poddisruptionbudgets", "deployments", "configmaps"]


def test_a_reconcile_that_finds_all_as_it_should_be_deletes_nothing_and_keeps_no_book(
    server: ApiServer,
) -> None:
    reconciler(server).reconcile(BOTH)
    server.asked.clear()
    reconciler(server).reconcile(BOTH)
    assert all(each.startswith("PATCH") and "inventory" not in each for each in server.writes())


def test_killed_at_any_write_the_next_one_ends_the_same_and_loses_track_of_nothing() -> None:
    writes = 0
    while True:
        with api_server() as server:
            reconciler(server).reconcile(BLUE_ALONE)
            server.writes_left = writes
            try:
                reconciler(server).reconcile(slots({Slot.GREEN: BETTER}))
            except ReconcilerUnavailable:
                server.writes_left = None
            else:
                break
            reconciler(server).reconcile(BOTH)
            assert server.names() == ALWAYS | OF_BLUE | OF_GREEN
            reconciler(server).reconcile(slots({}))
            assert server.names() == ALWAYS
        writes += 1
    assert writes > 8  # it was killed at each of them


# --- what is somebody else's -----------------------------------------------------------


def test_what_somebody_else_made_is_applied_to_and_never_deleted(server: ApiServer) -> None:
    server.put(BUDGET, thing(BUDGET, "m-green", spec={"maxUnavailable": 2}))
    reconciler(server).reconcile(BOTH)
    assert server.at(BUDGET, "m-green")["spec"] == {"maxUnavailable": 1}
    reconciler(server).reconcile(BLUE_ALONE)
    assert "PodDisruptionBudget/m-green" in server.names()
    assert "Deployment/m-green" not in server.names()


def test_what_somebody_else_made_anew_under_the_same_name_is_not_deleted(server: ApiServer) -> None:
    reconciler(server).reconcile(BOTH)
    server.put(CONFIG_MAP, thing(CONFIG_MAP, "m-green", data={"theirs": "yes"}))
    reconciler(server).reconcile(BLUE_ALONE)
    assert server.at(CONFIG_MAP, "m-green")["data"] == {"theirs": "yes"}


def test_what_somebody_else_made_anew_is_theirs_although_git_still_had_it(server: ApiServer) -> None:
    reconciler(server).reconcile(BOTH)
    server.put(CONFIG_MAP, thing(CONFIG_MAP, "m-green", data={"theirs": "yes"}))
    reconciler(server).reconcile(BOTH)
    reconciler(server).reconcile(BLUE_ALONE)
    assert "ConfigMap/m-green" in server.names()


def test_what_another_hand_deleted_is_made_anew_and_is_ours_again(server: ApiServer) -> None:
    reconciler(server).reconcile(BOTH)
    del server.objects[path_of(CONFIG_MAP, "m-green")]
    reconciler(server).reconcile(BOTH)
    assert "ConfigMap/m-green" in server.names()
    reconciler(server).reconcile(BLUE_ALONE)
    assert "ConfigMap/m-green" not in server.names()


def test_a_route_that_a_rollout_has_taken_is_left_alone(server: ApiServer) -> None:
    reconciler(server).reconcile(BLUE_ALONE)
    taken = server.at(HTTP_ROUTE, "m-route")
    taken["metadata"]["annotations"] = HANDS_OFF
    taken["spec"] = {"rules": ["the rollout's"]}
    reconciler(server).reconcile(BOTH)
    assert server.at(HTTP_ROUTE, "m-route")["spec"] == {"rules": ["the rollout's"]}
    del taken["metadata"]["annotations"]
    reconciler(server).reconcile(BOTH)
    assert server.at(HTTP_ROUTE, "m-route")["spec"] == {"rules": []}


def test_what_git_says_to_leave_alone_is_not_made(server: ApiServer) -> None:
    mine = thing(CONFIG_MAP, "m-mine", data={})
    mine["metadata"]["annotations"] = HANDS_OFF
    reconciler(server, mine).reconcile(BLUE_ALONE)
    assert "ConfigMap/m-mine" not in server.names()


def test_what_is_left_alone_is_not_deleted_before_it_is_given_back(server: ApiServer) -> None:
    extra = thing(CONFIG_MAP, "m-extra", data={})
    reconciler(server, extra).reconcile(BLUE_ALONE)
    server.at(CONFIG_MAP, "m-extra")["metadata"]["annotations"] = HANDS_OFF
    reconciler(server).reconcile(BLUE_ALONE)
    assert "ConfigMap/m-extra" in server.names()
    server.at(CONFIG_MAP, "m-extra")["metadata"]["annotations"] = {}
    reconciler(server).reconcile(BLUE_ALONE)
    assert "ConfigMap/m-extra" not in server.names()


def test_fields_of_another_manager_are_not_forced_and_nothing_at_all_is_changed(server: ApiServer) -> None:
    words = 'Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas'
    server.refused[path_of(DEPLOYMENT, "m-blue")] = 409, words
    with pytest.raises(Conflict) as refused:
        reconciler(server).reconcile(BLUE_ALONE)
    assert f"Deployment m-blue: {words}" in str(refused.value)
    assert "kubectl kustomize k8s/environments/test/m | kubectl -n ns apply" in str(refused.value)
    assert server.names() == set()


@pytest.mark.parametrize(
    ("words", "is_taken"),
    [
        ('Apply failed with 1 conflict: conflict with "coalmine" using v1: .spec.rules', True),
        ('2 conflicts: conflicts with "coalmine":\n- .a\nconflicts with "istioctl":\n- .b', False),
    ],
    ids=["a-routers-write", "somebody-elses-too"],
)
def test_what_coalmine_itself_wrote_otherwise_than_by_apply_is_its_own(
    server: ApiServer, words: str, is_taken: bool
) -> None:
    reconciler(server).reconcile(BLUE_ALONE)
    server.at(HTTP_ROUTE, "m-route")["spec"] = {"rules": ["of a rollout that ended"]}
    server.refused[path_of(HTTP_ROUTE, "m-route")] = 409, words
    if not is_taken:
        with pytest.raises(Conflict, match="istioctl"):
            reconciler(server).reconcile(BLUE_ALONE)
        return
    reconciler(server).reconcile(BLUE_ALONE)
    assert server.at(HTTP_ROUTE, "m-route")["spec"] == {"rules": []}


# --- what is refused -------------------------------------------------------------------


def test_what_the_api_server_refuses_is_named_and_nothing_at_all_is_changed(server: ApiServer) -> None:
    server.refused[path_of(DEPLOYMENT, "m-blue")] = 422, "spec.selector: field is immutable"
    server.refused[path_of(HTTP_ROUTE, "m-route")] = 403, "httproutes is forbidden"
    with pytest.raises(ReconcilerUnavailable) as refused:
        reconciler(server).reconcile(BLUE_ALONE)
    assert "Deployment m-blue: spec.selector: field is immutable" in str(refused.value)
    assert "HTTPRoute m-route: httproutes is forbidden" in str(refused.value)
    assert server.names() == set()


def test_a_status_speaks_of_what_was_asked_for_although_it_was_refused(server: ApiServer) -> None:
    asked = reconciler(server)
    asked.reconcile(BLUE_ALONE)
    server.refused[path_of(DEPLOYMENT, "m-blue")] = 422, "spec.selector: field is immutable"
    with pytest.raises(ReconcilerUnavailable):
        asked.reconcile(slots({Slot.BLUE: BETTER}))
    assert "still has release 1111" in asked.status(Slot.BLUE).detail


def test_an_object_of_another_namespace_is_refused(server: ApiServer) -> None:
    astray = thing(CONFIG_MAP, "m-astray", data={})
    astray["metadata"]["namespace"] = "elsewhere"
    with pytest.raises(SpecError, match=r"ConfigMap m-astray into the namespace elsewhere, and .* ns"):
        reconciler(server, astray).reconcile(BLUE_ALONE)
    assert server.names() == set()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", ""), "belongs to no namespace"),
        (Kind("apps", "v1", "Nothing", ""), "knows no Nothing of apps/v1"),
        (Kind("monitoring.coreos.com", "v1", "PodMonitor", ""), "knows no PodMonitor of monitoring"),
    ],
    ids=["of-the-cluster", "unknown-kind", "unknown-group"],
)
def test_a_kind_that_lives_in_no_namespace_or_nowhere_is_refused(
    server: ApiServer, kind: Kind, words: str
) -> None:
    with pytest.raises(Unsupported, match=words):
        reconciler(server, thing(kind, "m-extra")).reconcile(BLUE_ALONE)
    assert server.names() == set()


@pytest.mark.parametrize(
    ("built", "wanted", "words"),
    [
        (BLUE_ALONE, BOTH, "builds nothing as the Deployment m-green, .* the release 2222"),
        (BOTH, BLUE_ALONE, "builds the release 2222.* as the Deployment m-green, .* says nothing"),
        (slots({Slot.BLUE: BETTER}), BLUE_ALONE, "builds the release 2222.* m-blue, .* the release 1111"),
    ],
    ids=["a-slot-left-out", "a-slot-too-many", "another-release"],
)
def test_what_git_builds_must_be_what_the_slots_say(
    server: ApiServer, built: Slots, wanted: Slots, words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        ApplyReconciler(server.cluster(), "m", lambda _: objects_of(built)).reconcile(wanted)
    assert server.names() == set()


def test_a_broken_inventory_is_not_taken_for_an_empty_one(server: ApiServer) -> None:
    reconciler(server).reconcile(BLUE_ALONE)
    server.at(CONFIG_MAP, "m-inventory")["data"] = {"made.json": "[{"}
    with pytest.raises(IntegrityError, match="ConfigMap m-inventory in ns is written by coalmine"):
        reconciler(server).reconcile(BOTH)
