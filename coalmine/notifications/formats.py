"""A notice as each service takes it. Pure: the same notice gives the same payload.

Slack: incoming webhooks with blocks (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
Microsoft Teams: an Adaptive Card in the envelope of a Workflows webhook (learn.microsoft.com, "Create
incoming webhooks with Workflows for Microsoft Teams"). Alertmanager: POST /api/v2/alerts (its
openapi.yaml). JSON: flat, for programs of one's own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

from coalmine.notifications.notices import Notice, Told

# Slack cuts a section's text at 3,000 characters and a header at 150; a card in Teams has 28 KB.
_LONGEST_SENTENCE = 1000
_LONGEST_TITLE = 150

# Alertmanager drops an alert when its time is over: news after minutes, what waits for a person after a
# shift. What was resolved before is said by the notice that resolves it.
_NEWS_FOR_S = 300.0
_WAITS_FOR_S = 8 * 3600.0
_SEVERITIES = {
    Told.STARTED: "info",
    Told.ADVANCED: "info",
    Told.PROMOTED: "info",
    Told.HELD: "warning",
    Told.NEEDS_YOU: "warning",
    Told.ROLLED_BACK: "critical",
}
_WAITING = (Told.HELD, Told.NEEDS_YOU)


class Format(StrEnum):
    SLACK = "slack"
    TEAMS = "teams"
    ALERTMANAGER = "alertmanager"
    JSON = "json"


def payload(form: Format, notice: Notice, host: str) -> object:
    """What is posted, ready for JSON. host: the machine that runs the rollout and has its page."""
    match form:
        case Format.SLACK:
            return _slack(notice, host)
        case Format.TEAMS:
            return _teams(notice, host)
        case Format.ALERTMANAGER:
            return _alertmanager(notice, host)
        case Format.JSON:
            return _json(notice, host)
        case other:
            assert_never(other)


# --- Slack -----------------------------------------------------------------------------


def _slack(notice: Notice, host: str) -> dict[str, object]:
    steps = "\n".join(f"`{step.command}`  {_for_slack(step.effect)}" for step in notice.steps)
    context = _for_slack(f"{_users(notice)} · {_moment(notice.at_s)} · page: {notice.page} on {host}")
    return {
        "text": _for_slack(f"{notice.title}. {_sentence(notice)}"),  # what a telephone shows
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": notice.title[:_LONGEST_TITLE]}},
            _section(_for_slack(_sentence(notice))),
            _section(steps),
            {"type": "context", "elements": [{"type": "mrkdwn", "text": context}]},
        ],
    }


def _section(text: str) -> dict[str, object]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _for_slack(text: str) -> str:
    """Text as text: these three begin Slack's links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- Microsoft Teams -------------------------------------------------------------------


def _teams(notice: Notice, host: str) -> dict[str, object]:
    colour = {"info": "good" if notice.told is Told.PROMOTED else "default", "warning": "warning"}
    facts = {
        "Users": _users(notice),
        "When": _moment(notice.at_s),
        "Rollout": notice.about.id,
        "Page": f"{notice.page} on {host}",
        **{step.command: step.effect for step in notice.steps},
    }
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": [
            {
                "type": "TextBlock",
                "text": _for_teams(notice.title),
                "size": "large",
                "weight": "bolder",
                "color": "good" if notice.over else colour.get(_SEVERITIES[notice.told], "attention"),
                "wrap": True,
            },
            {"type": "TextBlock", "text": _for_teams(_sentence(notice)), "wrap": True},
            {
                "type": "FactSet",
                "facts": [
                    {"title": _for_teams(name), "value": _for_teams(value)} for name, value in facts.items()
                ],
            },
        ],
    }
    content_type = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": content_type, "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _for_teams(text: str) -> str:
    """Text as text: cards read Markdown, and a release's words might hold a link."""
    return re.sub(r"([\\`*_\[\]<>#~])", r"\\\1", text)


# --- Alertmanager ----------------------------------------------------------------------


def _alertmanager(notice: Notice, host: str) -> list[dict[str, object]]:
    """The notice's own alert, and an end to those that it makes untrue."""
    if notice.over:
        return [_alert(notice, host, notice.told, ends_at_s=notice.at_s)]
    lasts_s = _NEWS_FOR_S if _SEVERITIES[notice.told] == "info" else _WAITS_FOR_S
    started_at = {"startsAt": _iso(notice.at_s)}
    own = _alert(notice, host, notice.told, ends_at_s=notice.at_s + lasts_s) | started_at
    untrue = () if notice.told in _WAITING else _WAITING
    return [own, *(_alert(notice, host, told, ends_at_s=notice.at_s) for told in untrue)]


def _alert(notice: Notice, host: str, told: Told, ends_at_s: float) -> dict[str, object]:
    """One that is over already has an end alone: it resolves what was posted before, or nothing."""
    about = notice.about
    commands = "; ".join(f"{step.command}: {step.effect}" for step in notice.steps)
    return {
        # What is the same from the first word of it to the last: an alert is known by its labels.
        "labels": {
            "alertname": "CoalmineRollout",
            "told": told.value,
            "severity": _SEVERITIES[told],
            "model": about.model,
            "environment": about.environment,
            "version": about.candidate,
            "rollout": about.id,
        },
        "annotations": {
            "summary": notice.title,
            "description": f"{_sentence(notice)} {_users(notice)}.",
            "commands": commands,
            "page": f"{notice.page} on {host}",
        },
        "endsAt": _iso(ends_at_s),
    }


# --- JSON ------------------------------------------------------------------------------


def _json(notice: Notice, host: str) -> dict[str, object]:
    about = notice.about
    return {
        "schema_version": 1,
        "told": notice.told.value,
        "over": notice.over,
        "model": about.model,
        "environment": about.environment,
        "candidate": about.candidate,
        "stable": about.stable,
        "rollout": about.id,
        "sequence": notice.sequence,
        "at": _iso(notice.at_s),
        "weight_percent": notice.weight_percent,
        "title": notice.title,
        "sentence": notice.sentence,
        "next": [{"command": step.command, "effect": step.effect} for step in notice.steps],
        "page": str(notice.page),
        "host": host,
    }


# --- words -----------------------------------------------------------------------------


def _sentence(notice: Notice) -> str:
    said = notice.sentence
    return said if len(said) <= _LONGEST_SENTENCE else said[: _LONGEST_SENTENCE - 1] + "…"


def _users(notice: Notice) -> str:
    return f"{notice.weight_percent} % of the users on {notice.about.candidate}"


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
