"""What `coalmine watch` posts: one message a look, as each service takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from coalmine.drift.alerts import Notice, Open
from coalmine.drift.compare import compare
from coalmine.notifications.drift_formats import drift_payload
from coalmine.notifications.formats import Format
from tests.drift.place import DIVERGENCES, MODEL

(MOVED,) = compare(DIVERGENCES["weights moved by hand"].facts).findings
APPEARED = Notice(3, 1_365_040_860.5, (Open(MOVED, 1_365_040_800.5, told=True),), (), ("pager",))
ENDED = replace(APPEARED, number=4, at_s=1_365_041_400.5, appeared=(), ended=APPEARED.appeared)


def posted(form: Format, notice: Notice) -> Any:
    return json.loads(json.dumps(drift_payload(form, "production", notice, "watcher-1")))


@pytest.mark.parametrize("form", list(Format))
def test_each_service_is_told_what_where_and_what_to_type(form: Format) -> None:
    text = json.dumps(posted(form, APPEARED))
    for words in (MODEL, "production", "30 % on 1.0.0", f"coalmine deliver {MODEL}"):
        assert words in text


def test_alertmanager_gets_an_alert_since_the_first_look_and_its_end_by_the_same_labels() -> None:
    (fired,), (resolved,) = posted(Format.ALERTMANAGER, APPEARED), posted(Format.ALERTMANAGER, ENDED)
    assert fired["labels"] == resolved["labels"]
    assert fired["labels"]["alertname"] == "CoalmineDrift"
    assert fired["startsAt"] == resolved["startsAt"] == "2013-04-04T02:00:00.500Z"
    assert resolved["endsAt"] == "2013-04-04T02:10:00.500Z"
    assert fired["endsAt"] > resolved["endsAt"]
    assert all(fired["labels"].values())


def test_slack_and_teams_show_the_first_of_many_within_their_limits() -> None:
    many = tuple(replace(APPEARED.appeared[0], finding=replace(MOVED, model=f"m-{n}")) for n in range(1000))
    notice = replace(APPEARED, appeared=many)
    slack = posted(Format.SLACK, notice)
    assert slack["blocks"][0]["text"]["text"] == "production and Git: 1000 new"
    assert all(len(block.get("text", {}).get("text", "")) <= 3000 for block in slack["blocks"])
    assert len(json.dumps(posted(Format.TEAMS, notice))) < 28_000


def test_plain_json_is_flat_and_versioned() -> None:
    body = posted(Format.JSON, APPEARED)
    assert (body["schema_version"], body["number"], body["ended"]) == (1, 3, [])
    assert body["appeared"][0]["since"] == "2013-04-04T02:00:00.500Z"
