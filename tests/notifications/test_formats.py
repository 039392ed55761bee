"""What is posted is what each service's own documentation asks for."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from coalmine.notifications.formats import Format, payload
from coalmine.notifications.notices import Notice, Told
from tests.journals.fake_rollouts import FakeRollout

ABOUT = FakeRollout(environment="production").about


def notice(told: Told = Told.ROLLED_BACK, sentence: str = "Rolling back.", *, over: bool = False) -> Notice:
    return Notice(ABOUT, 7, told, 1_365_040_800.5, sentence, 25, Path("/r/report.html"), over)


def posted(form: Format, what: Notice) -> Any:
    return json.loads(json.dumps(payload(form, what, "runner-1")))


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("told", list(Told))
def test_every_kind_says_what_happened_and_where_the_page_is(form: Format, told: Told) -> None:
    text = json.dumps(posted(form, notice(told, "Because of that.")))
    for words in ("Because of that.", "/r/report.html", "runner-1", "1.1.0", ABOUT.model.split("-")[0]):
        assert words in text


def test_slack_gets_blocks_with_a_short_header_and_text_for_the_telephone() -> None:
    body = posted(Format.SLACK, notice(sentence="<!channel> & <http://x|y>" + "z" * 4000))
    assert body["text"].startswith("flight-delay 1.1.0 in production: rolled back. &lt;!channel&gt; &amp;")
    header, said, steps, context = body["blocks"]
    assert header["type"] == "header"
    assert header["text"]["type"] == "plain_text"
    assert len(header["text"]["text"]) <= 150
    assert len(said["text"]["text"]) <= 3000
    assert "<" not in said["text"]["text"]
    assert "coalmine" in steps["text"]["text"]
    assert context["elements"][0]["type"] == "mrkdwn"


def test_teams_gets_one_adaptive_card_in_an_attachment() -> None:
    body = posted(Format.TEAMS, notice(sentence="[click](http://x) *now*"))
    (attachment,) = body["attachments"]
    assert body["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    title, said, facts = card["body"]
    assert title["color"] == "attention"
    assert said["text"] == r"\[click\](http://x) \*now\*"
    assert {"title", "value"} == set(facts["facts"][0])
    assert len(json.dumps(body)) < 28_000


def test_alertmanager_gets_an_alert_that_fires_for_hours_when_somebody_must_look() -> None:
    alert, *_ = posted(Format.ALERTMANAGER, notice(Told.HELD))
    assert alert["labels"]["alertname"] == "CoalmineRollout"
    assert alert["labels"]["severity"] == "warning"
    assert all(isinstance(value, str) and value for value in alert["labels"].values())
    lasts = datetime.fromisoformat(alert["endsAt"]) - datetime.fromisoformat(alert["startsAt"])
    assert lasts.total_seconds() == 8 * 3600


def test_alertmanager_resolves_a_hold_by_the_same_labels() -> None:
    (fired,) = posted(Format.ALERTMANAGER, notice(Told.HELD))
    (resolved,) = posted(Format.ALERTMANAGER, notice(Told.HELD, over=True))
    assert resolved["labels"] == fired["labels"]
    assert resolved["endsAt"] == "2013-04-04T02:00:00.500Z"
    assert "startsAt" not in resolved


@pytest.mark.parametrize("told", [Told.ADVANCED, Told.PROMOTED, Told.ROLLED_BACK])
def test_alertmanager_resolves_what_waited_when_the_rollout_moves(told: Told) -> None:
    alerts = posted(Format.ALERTMANAGER, notice(told))
    assert [alert["labels"]["told"] for alert in alerts] == [told, "held", "needs-you"]
    waited = posted(Format.ALERTMANAGER, notice(Told.NEEDS_YOU))[0]["labels"]
    assert alerts[2]["labels"] == waited


def test_plain_json_is_flat_and_versioned() -> None:
    body = posted(Format.JSON, notice(Told.NEEDS_YOU))
    assert body["schema_version"] == 1
    assert body["next"][0]["command"] == "coalmine approve flight-delay -e production"
    assert (body["sequence"], body["weight_percent"], body["rollout"]) == (7, 25, ABOUT.id)
