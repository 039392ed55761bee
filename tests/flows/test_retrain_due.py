"""A run for each model that is due, and one for each cause, and a delivery for each release that may go: on a
real Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.testing.utilities import prefect_test_harness

from coalmine.operations.due import Due, DueModels
from coalmine.operations.eligible import Eligible, EligibleReleases, Refused
from coalmine.triggers.cause import Cause
from flows import deliver_eligible as releases
from flows import retrain_due as module
from flows.deliver import deliver
from flows.deliver_eligible import deliver_eligible
from flows.retrain import retrain
from flows.retrain_and_deliver import retrain_and_deliver
from flows.retrain_due import retrain_due

CHANGE = Cause(kind="change", who="Sam Li <sam@example.com>", because="its code changed", key="change-1")
WORSE = Cause(kind="quality", who="the labels of risk", because="it lost more", key="quality-1")
LATER = CHANGE.model_copy(update={"key": "change-2"})


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def deployed() -> None:
    for flow in (retrain, retrain_and_deliver, deliver):
        flow.to_deployment(flow.name).apply()


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch):
    """A run of the flow that finds these models; how it ended."""
    monkeypatch.setattr(module.Workspace, "open", lambda _: None)

    def look(*models: Due, **parameters: Any) -> State[Any]:
        monkeypatch.setattr(module, "due", lambda _workspace, _models, _environment: DueModels(models))
        ended: State[Any] = retrain_due(**parameters, return_state=True)
        return ended

    return look


def started() -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return [run for run in client.read_flow_runs() if "cause" in run.parameters]


def test_where_prefect_does_not_know_the_flow_it_says_how_to_mend_it(look) -> None:
    ended = look(Due("late", (CHANGE,)))
    assert ended.is_failed()
    assert "coalmine up" in ended.message


@pytest.mark.usefixtures("deployed")
def test_each_model_that_is_due_gets_one_run_for_each_cause(look) -> None:
    others = (Due("calm"), Due("off", notes=("changed, and off",)))
    ended = look(Due("late", (CHANGE,)), Due("risk", (CHANGE, LATER)), *others)
    assert (ended.name, ended.message) == ("Due", "Due: late, risk.")
    look(Due("late", (CHANGE,)))
    assert sorted(run.parameters["model"] for run in started()) == ["late", "risk"]
    assert {Cause.model_validate(run.parameters["cause"]) for run in started()} == {CHANGE}

    look(Due("late", (LATER,)))
    assert sorted(run.parameters["model"] for run in started()) == ["late", "late", "risk"]
    look(Due("late", (LATER,)), deliver=True)
    assert len(started()) == 4
    look(Due("worse", (WORSE,)))
    data = {run.parameters["model"]: run.parameters["data"] for run in started()}
    assert data == {"late": "none", "risk": "none", "worse": "all"}  # what it knows has nothing new to say
    assert look(*others).name == "NothingDue"


def test_a_run_takes_the_parameters_that_it_is_started_with() -> None:
    for flow in (retrain, retrain_and_deliver):
        taken = flow.validate_parameters({"model": "late", "cause": CHANGE.model_dump(mode="json")})
        assert taken["cause"] == CHANGE


@pytest.mark.usefixtures("deployed")
def test_each_release_that_may_go_gets_one_delivery_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases.Workspace, "open", lambda _: None)
    goes = Eligible("risk", "production", "UTC", "1.1.0", "d1")
    waits = Eligible("late", "production", "UTC", refused=(Refused("1.2.0", "there is a freeze", None),))
    newer = Eligible("risk", "production", "UTC", "1.2.0", "d2")
    for found in ((goes, waits), (goes,), (newer,)):
        monkeypatch.setattr(releases, "eligible", lambda *_, found=found: EligibleReleases(found))
        ended: State[Any] = deliver_eligible("production", return_state=True)
        assert ended.name == "Eligible"
    with get_client(sync_client=True) as client:
        runs = [run.parameters for run in client.read_flow_runs() if "version" in run.parameters]
    assert sorted(run["version"] for run in runs) == ["1.1.0", "1.2.0"]
    assert all(deliver.validate_parameters(run) for run in runs)
    assert {(run["model"], run["environment"]) for run in runs} == {("risk", "production")}
