"""How a flow run ends in the list of runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.client.schemas.objects import StateType
from prefect.logging import disable_run_logger

from coalmine.drift.findings import Finding, Kind
from coalmine.errors import AlreadyRunning, DataRefused, NotYetAdmitted, RemoteUnavailable
from coalmine.manifest import Outcome
from coalmine.operations.deliver import Delivered
from coalmine.operations.due import Due, DueModels
from coalmine.operations.eligible import Eligible, EligibleReleases
from coalmine.operations.record import Recorded
from coalmine.operations.rollback import RolledBack
from coalmine.operations.watch import Found, Looked
from coalmine.triggers.cause import Cause
from flows.conclusion import Result, conclude

RELEASED = Recorded("delay", Outcome.RELEASE, "1.1.0", "1.0.0", ("It is better.", "It is fast."), "c0ffee")
KEPT = Recorded("delay", Outcome.KEEP, None, "1.0.0", ("It is worse.",), "c0ffee")
UNCHANGED = Recorded("delay", Outcome.RELEASE, "1.1.0", "1.0.0", (), "c0ffee", changed=False)

MOVED = Finding(Kind.ROUTE_WEIGHTS, "delay", "", "everybody on 1.0.0", "nobody", "Deliver it.")
CHANGE = Cause(kind="change", who="Sam", because="its code changed", key="change-1")
WAITS, GOES = Eligible("risk", "production", "UTC"), Eligible("delay", "production", "UTC", "1.1.0", "d1")


def delivered(*, promoted: bool) -> Delivered:
    return Delivered("delay", "1.1.0", promoted, "every gate passed", "a rollout", Path("report.html"))


@pytest.mark.parametrize(
    ("result", "name", "message"),
    [
        pytest.param(RELEASED, "Released", "It is better. It is fast.", id="released"),
        pytest.param(KEPT, "Kept", "It is worse.", id="the champion stays"),
        pytest.param(UNCHANGED, "Unchanged", "Nothing changed for delay since 1.1.0.", id="nothing changed"),
        pytest.param(delivered(promoted=True), "Promoted", "delay 1.1.0: every gate passed.", id="promoted"),
        pytest.param(
            delivered(promoted=False), "RolledBack", "delay 1.1.0: every gate passed.", id="rolled back"
        ),
        pytest.param(
            Delivered("delay", "1.1.0", True, "it serves already"),
            "Unchanged",
            "delay 1.1.0 serves already.",
            id="served already",
        ),
        pytest.param(
            RolledBack("delay", "1.1.0", "1.0.0", datetime(2026, 11, 2, 3, 0, tzinfo=UTC), "c0ffee" * 6),
            "RolledBack",
            "delay: everybody is back on 1.0.0 since 2026-11-02 03:00:00 UTC, after 1.1.0. "
            "Record: c0ffeec0ffee.",
            id="back at rest",
        ),
        pytest.param(
            Looked("production", 0.0, 2, ()), "AsGitSays", "production is as Git says.", id="as Git"
        ),
        pytest.param(
            Looked("production", 0.0, 2, (Found(MOVED, 0.0, told=True),)),
            "NotAsGitSays",
            f"production is not as Git says: {MOVED}",
            id="not as Git says",
        ),
        pytest.param(DueModels((Due("delay"),)), "NothingDue", "No model is due.", id="nothing is due"),
        pytest.param(
            DueModels((Due("delay", (CHANGE,)), Due("risk"))), "Due", "Due: delay.", id="some are due"
        ),
        pytest.param(EligibleReleases((WAITS,)), "NothingEligible", "No release may go now.", id="none goes"),
        pytest.param(EligibleReleases((WAITS, GOES)), "Eligible", "May go: delay 1.1.0.", id="some go"),
    ],
)
def test_a_run_that_did_its_work_is_completed_and_named_by_what_came_of_it(
    result: Result, name: str, message: str
) -> None:
    state = conclude(lambda: result)
    assert (state.type, state.name, state.message) == (StateType.COMPLETED, name, message)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(
            AlreadyRunning("Dana does it"), StateType.CANCELLED, id="another run does it: cancelled"
        ),
        pytest.param(NotYetAdmitted("a freeze"), StateType.CANCELLED, id="it may go later: cancelled"),
        pytest.param(DataRefused("no rows"), StateType.FAILED, id="bad input: failed"),
        pytest.param(RemoteUnavailable("no answer"), StateType.FAILED, id="unavailable: failed"),
    ],
)
def test_an_error_made_for_people_is_the_run_s_message(error: Exception, expected: StateType) -> None:
    with disable_run_logger():
        state = conclude(_raising(error))
    assert (state.type, state.message) == (expected, str(error))


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        conclude(_raising(ZeroDivisionError()))


def _raising(error: Exception) -> Callable[[], Result]:
    def act() -> Result:
        raise error

    return act
