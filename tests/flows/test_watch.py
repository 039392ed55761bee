"""The events by which the flow `watch` tells, as Prefect takes them."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.events.schemas.events import Event, Resource

from coalmine.drift.alerts import Notice, Open
from coalmine.drift.compare import compare
from flows import watch as module
from tests.drift.place import DIVERGENCES, MODEL


def test_a_finding_and_its_end_are_events_of_one_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        told.append(Event(event=event, resource=Resource(resource), payload=payload))

    monkeypatch.setattr(module, "emit_event", emit)
    (moved,) = compare(DIVERGENCES["weights moved by hand"].facts).findings
    found = (Open(moved, 0.0, told=True),)
    module.Events().tell("production", Notice(1, 60.0, found, (), ()))
    module.Events().tell("production", Notice(2, 90.0, (), found, ()))
    assert [each.event for each in told] == ["coalmine.finding.appeared", "coalmine.finding.ended"]
    assert told[0].resource.id == told[1].resource.id
    assert told[0].resource["coalmine.model"] == MODEL
    assert "30 %" in told[0].payload["seen"]
