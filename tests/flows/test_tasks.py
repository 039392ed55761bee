"""A step of an operation as a task of a flow run: on a real Prefect server, with steps that only pretend."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from prefect import State, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import TaskRun
from prefect.testing.utilities import prefect_test_harness

from coalmine.errors import AlreadyRunning, CoalmineError, DataRefused, RemoteUnavailable, ReviewAwaited
from coalmine.manifest import Comparison, Estimate, Outcome, ReleaseDecision
from coalmine.operations.decide import Decided
from coalmine.operations.ingest import IngestedDataset
from coalmine.operations.record import Recorded
from coalmine.operations.steps import Step
from flows import tasks
from flows.conclusion import conclude
from flows.tasks import tasks_about

RECORDED = Recorded("delay", Outcome.RELEASE, "1.1.0", "1.0.0", ("It is better.",), "c0ffee0123456789")
GAIN = Estimate(value=0.02, low=0.01, high=0.03)
DECIDED = Decided(
    decision=ReleaseDecision(
        outcome=Outcome.RELEASE,
        reasons=("It is better.",),
        champion="1.0.0",
        metrics={"roc_auc": Estimate(value=0.8, low=0.75, high=0.85)},
        champion_metrics={"roc_auc": Estimate(value=0.78, low=0.73, high=0.83)},
        comparisons=(
            Comparison(
                metric="roc_auc",
                slice=None,
                rows=1234,
                challenger=0.8,
                champion=0.78,
                gain=GAIN,
                required_gain=0,
                passed=True,
            ),
        ),
    ),
    version="1.1.0",
    parent="1.0.0",
    code="c0ffee",
    inputs=(),
    outputs=(),
    classes=(),
    example=None,  # type: ignore[arg-type]  # nobody shows it
    trusted_types=(),
)


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def run(*steps: tuple[Step, Callable[[], object]]) -> State[Any]:
    """A flow run of `steps`; the state in which it ended."""

    @flow(name="pretended", flow_run_name=f"pretended {uuid4()}")
    def pretended() -> State[Any]:
        def act() -> Recorded:
            for step, each in steps:
                tasks_about("delay")(step, each)
            return RECORDED

        return conclude(act)

    ended: State[Any] = pretended(return_state=True)
    return ended


def failing(error: CoalmineError, calls: list[None] | None = None) -> Callable[[], object]:
    def act() -> object:
        if calls is not None:
            calls.append(None)
        raise error

    return act


def task_runs_of(state: State[Any], client: SyncPrefectClient, count: int) -> list[TaskRun]:
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    deadline = time.monotonic() + 60
    # Prefect tells its server of tasks by events, which arrive a little later.
    while True:
        runs = client.read_task_runs(flow_run_filter=of_run)
        if len(runs) == count and all(map(_is_final, runs)):
            return runs
        assert time.monotonic() < deadline, runs
        time.sleep(0.1)


def _is_final(run: TaskRun) -> bool:
    return run.state is not None and run.state.is_final()


def test_every_step_has_its_tags() -> None:
    assert set(tasks.TAGS) == set(Step)


def test_a_step_returns_what_it_did() -> None:
    seen: list[object] = []

    @flow(name="returning")
    def returning() -> None:
        seen.append(tasks_about("delay")(Step.TRAIN, lambda: "trained"))

    returning()
    assert seen == ["trained"]


def test_a_step_that_fails_ends_the_run_with_its_own_words_and_without_a_trace(
    caplog: pytest.LogCaptureFixture, client: SyncPrefectClient
) -> None:
    with caplog.at_level(logging.INFO):
        ended = run(
            (Step.VALIDATE, lambda: None),
            (Step.TRAIN, failing(DataRefused("april: column `dep` has 3 late rows"))),
            (Step.RECORD, lambda: pytest.fail("a step after a failed one")),
        )
    assert (ended.is_failed(), ended.message) == (True, "april: column `dep` has 3 late rows")
    messages = {each.name: each.state and each.state.message for each in task_runs_of(ended, client, 2)}
    assert messages == {"validate": "", "train": "april: column `dep` has 3 late rows"}
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_a_run_that_another_one_forestalled_is_cancelled() -> None:
    ended = run((Step.TRAIN, failing(AlreadyRunning("Retrain delay is already running: Dana"))))
    assert (ended.is_cancelled(), ended.message) == (True, "Retrain delay is already running: Dana")


@pytest.mark.parametrize(
    ("step", "error", "tries"),
    [
        pytest.param(Step.RECORD, RemoteUnavailable("no answer"), 3, id="unavailable: again, twice"),
        pytest.param(Step.RECORD, DataRefused("no rows"), 1, id="bad input stays bad"),
        pytest.param(Step.RECORD, ReviewAwaited("not merged"), 1, id="it has waited for a reviewer already"),
        pytest.param(Step.ROLL_OUT, RemoteUnavailable("no answer"), 1, id="users are never moved twice"),
    ],
)
def test_a_step_is_repeated_only_where_that_is_safe_and_may_help(
    monkeypatch: pytest.MonkeyPatch, step: Step, error: CoalmineError, tries: int
) -> None:
    monkeypatch.setattr(tasks, "RETRY_DELAY_S", 0)
    calls: list[None] = []
    assert run((step, failing(error, calls))).message == str(error)
    assert len(calls) == tries


def test_what_a_step_found_can_be_read_in_the_ui(client: SyncPrefectClient) -> None:
    ingested = IngestedDataset("flights", ("2013-04",), "d1gest.dir")
    ended = run(
        (Step.INGEST, lambda: ingested), (Step.DECIDE, lambda: DECIDED), (Step.RECORD, lambda: RECORDED)
    )
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[ended.state_details.flow_run_id])
        )
    )
    texts = {artifact.key: str(artifact.data) for artifact in found}
    assert "flights: 2013-04." in texts["data-flights"]
    assert "# Release: 1.1.0 against 1.0.0" in texts["decision-delay"]
    assert "0.8000 (0.7500 to 0.8500)" in texts["metrics-delay"]
    assert "0.7800 (0.7300 to 0.8300)" in texts["metrics-delay"]
    assert "0.0200 (0.0100 to 0.0300)" in texts["gains-delay"]
    assert "Released **1.1.0** in commit `c0ffee012345`" in texts["record-delay"]


def test_the_timeline_names_the_steps_as_people_do(client: SyncPrefectClient) -> None:
    ended = run((Step.VALIDATE, lambda: None), (Step.HAND_OVER, lambda: None))
    assert {each.name for each in task_runs_of(ended, client, 2)} == {"validate", "hand over"}
