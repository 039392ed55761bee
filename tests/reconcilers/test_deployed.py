from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coalmine.cluster.kinds import DEPLOYMENT
from coalmine.errors import ReconcilerUnavailable
from coalmine.reconcilers.deployed import Deployed
from coalmine.rollout.ports import SlotHealth, SlotStatus
from coalmine.slots import Slot
from tests.contracts.reconciler import BETTER, GOOD, slots
from tests.reconcilers.api_server import ApiServer, api_server, path_of

Json = dict[str, Any]

NOTHING = SlotStatus(SlotHealth.FAILED, "nothing is meant to run in blue")
READY = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as served:
        yield served


def run_in_blue(server: ApiServer, digest: str, **status: Any) -> Json:
    template = {"metadata": {"annotations": {"coalmine.dev/digest": digest}}}
    spec = {"replicas": 1, "template": template}
    return server.put(DEPLOYMENT, {"metadata": {"name": "m-blue"}, "spec": spec, "status": status})


def asked_for(server: ApiServer, releases: dict[Slot, Any]) -> Deployed:
    deployed = Deployed(server.cluster(), "m")
    deployed.ask(slots(releases))
    return deployed


def test_a_new_process_believes_the_deployment(server: ApiServer) -> None:
    deployed = Deployed(server.cluster(), "m")
    assert deployed.status(Slot.BLUE) == NOTHING
    run_in_blue(server, BETTER.model_digest, **READY)
    assert deployed.status(Slot.BLUE) == SlotStatus(SlotHealth.READY)


def test_a_release_that_was_not_asked_for_is_never_ready(server: ApiServer) -> None:
    run_in_blue(server, GOOD.model_digest, **READY)
    status = asked_for(server, {Slot.BLUE: BETTER}).status(Slot.BLUE)
    assert status.health is SlotHealth.STARTING
    assert status.detail == "the Deployment m-blue still has release 111111111111, not 222222222222"


def test_a_slot_that_was_emptied_has_failed_although_its_pods_serve_still(server: ApiServer) -> None:
    run_in_blue(server, GOOD.model_digest, **READY)
    assert asked_for(server, {}).status(Slot.BLUE) == NOTHING


def test_a_deployment_that_another_hand_takes_away_has_failed(server: ApiServer) -> None:
    deployed = asked_for(server, {Slot.BLUE: GOOD})
    gone = SlotStatus(SlotHealth.FAILED, "the Deployment m-blue was taken away")
    assert deployed.status(Slot.BLUE) == gone
    run_in_blue(server, GOOD.model_digest, **READY)["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert deployed.status(Slot.BLUE) == gone


def test_what_is_missing_is_said_slot_by_slot(server: ApiServer) -> None:
    deployed = Deployed(server.cluster(), "m")
    assert deployed.missing(slots({})) is None
    run_in_blue(server, GOOD.model_digest)
    assert deployed.missing(slots({Slot.BLUE: GOOD})) is None
    assert deployed.missing(slots({Slot.GREEN: BETTER})) == (
        "the Deployment m-blue is still there; the Deployment m-green is not there yet"
    )


def test_a_ready_slot_costs_one_request_and_any_other_two_lists_more(server: ApiServer) -> None:
    run_in_blue(server, GOOD.model_digest, **READY)
    deployed = asked_for(server, {Slot.BLUE: GOOD})
    deployed.status(Slot.BLUE)
    assert server.asked == ["GET ns/deployments/m-blue"]
    server.asked.clear()
    run_in_blue(server, GOOD.model_digest, observedGeneration=1)
    deployed.status(Slot.BLUE)
    assert server.asked == ["GET ns/deployments/m-blue", "GET ns/replicasets", "GET ns/pods"]


def test_an_api_server_that_is_away_or_refuses_is_unavailable(server: ApiServer) -> None:
    run_in_blue(server, GOOD.model_digest)
    deployed = asked_for(server, {Slot.BLUE: GOOD})
    server.broken[path_of(DEPLOYMENT, "m-blue")] = 403, "deployments is forbidden"
    with pytest.raises(ReconcilerUnavailable, match="deployments is forbidden"):
        deployed.status(Slot.BLUE)
    server.broken[path_of(DEPLOYMENT, "m-blue")] = 503, "starting up"
    with pytest.raises(ReconcilerUnavailable, match="starting up"):
        deployed.status(Slot.BLUE)
