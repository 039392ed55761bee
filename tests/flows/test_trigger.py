"""Who or what a release is attributed to."""

from __future__ import annotations

import pytest
from prefect import runtime

from coalmine.manifest import Trigger
from coalmine.triggers.cause import Cause
from flows.trigger import trigger

RUN = "0d5c0c9a-3a0e-4c4b-9d7b-3b8f1a0e9b11"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch):
    """A flow run as Prefect describes it to the flow."""

    def start(*, tags: list[str], deployment: str | None) -> None:
        for name, value in (("id", RUN), ("flow_name", "retrain"), ("tags", tags)):
            monkeypatch.setitem(runtime.flow_run.FIELDS, name, lambda value=value: value)
        monkeypatch.setitem(runtime.deployment.FIELDS, "name", lambda: deployment)

    return start


@pytest.mark.parametrize(
    ("asked_by", "tags", "deployment", "expected"),
    [
        pytest.param(
            "",
            ["auto-scheduled", "flights"],
            "nightly",
            Trigger(kind="schedule", who="nightly", run=RUN),
            id="a run of the schedule",
        ),
        pytest.param(
            "Dana",
            [],
            "retrain",
            Trigger(kind="person", who="Dana", proof="claimed", run=RUN),
            id="a person who gave a name in the form: claimed, since Prefect has no users",
        ),
        pytest.param(
            "",
            [],
            "retrain",
            Trigger(kind="automation", who="Prefect deployment retrain", run=RUN),
            id="nobody gave a name",
        ),
        pytest.param(
            "",
            [],
            None,
            Trigger(kind="automation", who="Prefect flow retrain", run=RUN),
            id="no deployment: a program ran the flow",
        ),
    ],
)
def test_a_run_is_attributed_to(
    started, asked_by: str, tags: list[str], deployment: str | None, expected: Trigger
) -> None:
    started(tags=tags, deployment=deployment)
    assert trigger(asked_by) == expected


def test_a_run_for_a_cause_is_attributed_to_that_unless_a_person_asks(started) -> None:
    started(tags=[], deployment="retrain")
    cause = Cause(kind="change", who="Sam Li <sam@example.com>", because="its code changed", key="change-1")
    assert trigger("", cause) == Trigger(
        kind="change", who="Sam Li <sam@example.com>", proof="claimed", run=RUN, because="its code changed"
    )
    assert trigger("Dana", cause).kind == "person"
