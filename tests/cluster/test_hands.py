"""What other hands do to a rollout of a cluster while it runs: 200 users a second at the gateway, and Flux
looks every 10 s.

1.1.0 is good. The rollout is paused in its first stage until the hand has done its work.
"""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from coalmine.cluster.client import Json
from coalmine.cluster.kinds import CONFIG_MAP, DEPLOYMENT, KUSTOMIZATION, LEASE, Kind
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers import hands
from coalmine.slots import Slot
from coalmine.wiring import TECHNOLOGIES
from tests.cluster.kubectl import kubectl
from tests.cluster.shop import KUSTOMIZATION_NAME, ROLLED_BACK, Shop
from tests.scenarios.users import Users
from tests.scenarios.workplace import MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROUTE = f"{MODEL}-route"
ONE_STAGE = """rollout:
  stages: [30]
  bake_s: 4
  poll_s: 2
  no_data_budget_s: 90
  gates:
    - {gate: errors, margin: 0.02}
"""
STOOD_STILL_S = 25.0  # Flux has looked twice by then


def test_weights_that_a_person_moves_are_set_back_and_the_rollout_goes_on(shop: Shop) -> None:
    shop.plan(ONE_STAGE)
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        pause(shop, users)
        move(shop, 90)
        shop.await_told("Somebody moved the route: the candidate has 90 %, set to 30 % again.")
        shop.await_told("Paused.", times=2)
        assert split_of(shop) == TrafficSplit.canary(Slot.GREEN, 30)
        time.sleep(STOOD_STILL_S)
        assert split_of(shop) == TrafficSplit.canary(Slot.GREEN, 30)
        shop.run("resume")
        assert shop.work.ended(delivery).status == 0
        shop.told(users)
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert not users.failures


def test_whoever_moves_the_weights_again_is_named_and_not_fought(shop: Shop) -> None:
    shop.plan(ONE_STAGE)
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        pause(shop, users)
        move(shop, 60)
        shop.await_told("Paused.", times=2)
        move(shop, 60)
        shop.await_told("was moved by kubectl-edit again after it was set back")
        assert split_of(shop) == TrafficSplit.canary(Slot.GREEN, 60)
        kubectl(
            "-n",
            shop.cluster.namespace,
            "annotate",
            f"{route_kind(shop).full_name}/{ROUTE}",
            f"{hands.RESTORED_AFTER}-",
        )
        shop.await_told("Paused.", times=3)
        shop.run("resume")
        assert shop.work.ended(delivery).status == 0
        shop.told(users)
    assert not users.failures


def test_a_route_that_is_deleted_comes_back_by_flux_and_the_rollout_goes_on(shop: Shop) -> None:
    shop.plan(ONE_STAGE)
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        pause(shop, users)
        shop.cluster.delete(route_kind(shop), ROUTE)
        shop.await_told("Paused.", times=2)
        # By when the rollout looks again Flux may have brought it back already, with its weights at rest.
        told = [event["sentence"] for event in shop.events()]
        assert any("is not there" in each or "the candidate has 0 %" in each for each in told)
        shop.run("resume")
        assert shop.work.ended(delivery).status == 0
        shop.told(users)
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    # While there was no route the gateway answered, and nobody else failed.
    assert {who for who, _ in users.failures} <= {"nobody"}


def test_a_candidate_that_is_scaled_to_nothing_by_hand_is_rolled_back(shop: Shop) -> None:
    shop.plan(ONE_STAGE)
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        users.await_version("1.1.0")
        kubectl("-n", shop.cluster.namespace, "scale", f"deployment/{MODEL}-green", "--replicas=0")
        ended = shop.work.ended(delivery)
        shop.told(users)
    assert ended.status == ROLLED_BACK
    assert "the candidate died: the Deployment late-payment-green is scaled to 0 replicas" in ended.out
    assert shop.slots == {"stable": "1.0.0", "candidate": None}
    assert sum(users.failures.values()) < 600


def test_a_candidate_that_is_scaled_up_by_hand_goes_on(shop: Shop) -> None:
    shop.plan(ONE_STAGE)
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        users.await_version("1.1.0")
        kubectl("-n", shop.cluster.namespace, "scale", f"deployment/{MODEL}-green", "--replicas=2")
        assert shop.work.ended(delivery).status == 0
        shop.told(users)
    assert not users.failures


def test_a_candidate_that_is_taken_back_in_git_is_rolled_back_and_recorded(shop: Shop) -> None:
    shop.plan(ONE_STAGE)
    elsewhere = shop.work.top.with_name("elsewhere")
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        pause(shop, users)
        subprocess.run(
            ["git", "clone", "-q", shop.work.git("remote", "get-url", "origin"), elsewhere], check=True
        )
        for words in (["revert", "--no-edit", "HEAD"], ["push", "-q", "origin", "main"]):
            subprocess.run(["git", "-C", elsewhere, *words], check=True, capture_output=True)
        ended = shop.work.ended(delivery)
        shop.told(users)
    assert ended.status == ROLLED_BACK
    assert "the candidate died: the Deployment late-payment-green was taken away" in ended.out
    assert shop.slots == {"stable": "1.0.0", "candidate": None}
    assert shop.work.trailers()["Decision"] == "rejected"
    assert shop.work.pushed() == shop.work.head()
    assert sum(users.failures.values()) < 600


def test_a_cluster_that_is_built_anew_mid_rollout_has_all_users_on_stable(shop: Shop) -> None:
    """Its objects are gone, and so is what it knew of the rollout; Git and Flux bring the rest."""
    shop.plan(ONE_STAGE)
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        users.await_version("1.1.0")
        delivery.kill()
        delivery.communicate()
        lose_everything(shop)
        await_pods(shop)
        begun = users.answers.copy()  # what the pods before had begun is answered
        time.sleep(STOOD_STILL_S)
        assert split_of(shop) == TrafficSplit.all_to(Slot.BLUE)
        assert users.answers["1.0.0", 200] > begun["1.0.0", 200]
        assert users.answers["1.1.0", 200] == begun["1.1.0", 200]
        shop.deliver("1.1.0")
        shop.told(users)
    assert shop.slots == {"stable": "1.1.0", "candidate": None}


# --- hands -------------------------------------------------------------------------------


def pause(shop: Shop, users: Users) -> None:
    """In the first stage, with the gates watching."""
    users.await_version("1.1.0")
    shop.run("pause")
    shop.await_told("Paused.")


def route_kind(shop: Shop) -> Kind:
    return TECHNOLOGIES[shop.router].kind


def split_of(shop: Shop) -> TrafficSplit | None:
    route = shop.cluster.get(route_kind(shop), ROUTE)
    assert route is not None
    return TECHNOLOGIES[shop.router].split_of(route, MODEL)


def move(shop: Shop, weight: int) -> None:
    """As a person does with `kubectl edit`."""
    route = shop.cluster.get(route_kind(shop), ROUTE)
    assert route is not None
    moved: Json = TECHNOLOGIES[shop.router].with_split(route, MODEL, TrafficSplit.canary(Slot.GREEN, weight))
    kubectl(
        "-n",
        shop.cluster.namespace,
        "replace",
        "--field-manager=kubectl-edit",
        "-f",
        "-",
        stdin=json.dumps(moved),
    )


def lose_everything(shop: Shop) -> None:
    """And have Flux bring it again."""
    cluster = shop.cluster
    kustomization = cluster.get(KUSTOMIZATION, KUSTOMIZATION_NAME)
    assert kustomization is not None
    cluster.delete(KUSTOMIZATION, KUSTOMIZATION_NAME)  # which prunes what it brought
    while cluster.get(KUSTOMIZATION, KUSTOMIZATION_NAME) is not None or cluster.list(DEPLOYMENT):
        time.sleep(0.2)
    route = cluster.get(route_kind(shop), ROUTE)
    if route is not None:  # Flux leaves what is annotated alone, also here
        cluster.delete(route_kind(shop), ROUTE)
    for kind in (CONFIG_MAP, LEASE):
        for each in cluster.list(kind, {"app.kubernetes.io/part-of": "coalmine"}):
            cluster.delete(kind, each["metadata"]["name"])
    metadata = {"name": KUSTOMIZATION_NAME}
    cluster.create(KUSTOMIZATION, {**kustomization, "metadata": metadata, "status": {}})


def await_pods(shop: Shop, within_s: float = 90.0) -> None:
    """Return when both slots' Deployments are available."""
    deadline = time.monotonic() + within_s
    for slot in Slot:
        while (
            not (shop.cluster.get(DEPLOYMENT, f"{MODEL}-{slot}") or {})
            .get("status", {})
            .get("availableReplicas")
        ):
            assert time.monotonic() < deadline
            time.sleep(0.3)
