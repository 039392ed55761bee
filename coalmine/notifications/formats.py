"""A notice as each service takes it. Pure: the same notice gives the same payload.

Slack: incoming webhooks with blocks (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
Microsoft Teams: an Adaptive Card in the envelope of a Workflows webhook (learn.microsoft.com, "Create
incoming webhooks with Workflows for Microsoft Teams"). Alertmanager: POST /api/v2/alerts (its
openapi.yaml). JSON: flat, for programs of one's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
            return slack(_card(notice, host))
        case Format.TEAMS:
            return teams(_card(notice, host))
        case Format.ALERTMANAGER:
            return _alertmanager(notice, host)
        case Format.JSON:
            return _json(notice, host)
        case other:
            assert_never(other)


# --- Slack and Microsoft Teams ---------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """What people are shown. colour: of Teams' own names. steps: what to type, and what it does. context: in
    a line below. facts: the same for Teams, by name."""

    title: str
    sentence: str
    colour: str
    steps: Sequence[tuple[str, str]]
    context: str
    facts: Mapping[str, str]


def slack(card: Card) -> dict[str, object]:
    steps = "\n".join(f"`{command}`  {_for_slack(effect)}" for command, effect in card.steps)
    return {
        "text": _for_slack(f"{card.title}. {_cut(card.sentence)}"),  # what a telephone shows
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": card.title[:_LONGEST_TITLE]}},
            _section(_for_slack(_cut(card.sentence))),
            *([_section(steps)] if steps else []),
            {"type": "context", "elements": [{"type": "mrkdwn", "text": _for_slack(card.context)}]},
        ],
    }


def _section(text: str) -> dict[str, object]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _for_slack(text: str) -> str:
    """Text as text: these three begin Slack's links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def teams(card: Card) -> dict[str, object]:
    facts = {**card.facts, **dict(card.steps)}
    adaptive = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": [
            {
                "type": "TextBlock",
                "text": _for_teams(card.title),
                "size": "large",
                "weight": "bolder",
                "color": card.colour,
                "wrap": True,
            },
            {"type": "TextBlock", "text": _for_teams(_cut(card.sentence)), "wrap": True},
            {
                "type": "FactSet",
                "facts": [
                    {"title": _for_teams(name), "value": _for_teams(value)} for name, value in facts.items()
                ],
            },
        ],
    }
    content_type = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": content_type, "contentUrl": None, "content": adaptive}
    return {"type": "message", "attachments": [attachment]}


def _for_teams(text: str) -> str:
    """Text as text: cards read Markdown, and a release's words might hold a link."""
    return re.sub(r"([\\`*_\[\]<>#~])", r"\\\1", text)


def _card(notice: Notice, host: str) -> Card:
    colour = {"info": "good" if notice.told is Told.PROMOTED else "default", "warning": "warning"}
    page = f"{notice.page} on {host}"
    return Card(
        title=notice.title,
        sentence=notice.sentence,
        colour="good" if notice.over else colour.get(_SEVERITIES[notice.told], "attention"),
        steps=[(step.command, step.effect) for step in notice.steps],
        context=f"{_users(notice)} · {moment(notice.at_s)} · page: {page}",
        facts={
            "Users": _users(notice),
            "When": moment(notice.at_s),
            "Rollout": notice.about.id,
            "Page": page,
        },
    )


# --- Alertmanager ----------------------------------------------------------------------


def _alertmanager(notice: Notice, host: str) -> list[dict[str, object]]:
    """The notice's own alert, and an end to those that it makes untrue."""
    if notice.over:
        return [_alert(notice, host, notice.told, ends_at_s=notice.at_s)]
    lasts_s = _NEWS_FOR_S if _SEVERITIES[notice.told] == "info" else _WAITS_FOR_S
    started_at = {"startsAt": iso(notice.at_s)}
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
            "description": f"{_cut(notice.sentence)} {_users(notice)}.",
            "commands": commands,
            "page": f"{notice.page} on {host}",
        },
        "endsAt": iso(ends_at_s),
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
        "at": iso(notice.at_s),
        "weight_percent": notice.weight_percent,
        "title": notice.title,
        "sentence": notice.sentence,
        "next": [{"command": step.command, "effect": step.effect} for step in notice.steps],
        "page": str(notice.page),
        "host": host,
    }


# --- words -----------------------------------------------------------------------------


def _cut(said: str) -> str:
    return said if len(said) <= _LONGEST_SENTENCE else said[: _LONGEST_SENTENCE - 1] + "…"


def _users(notice: Notice) -> str:
    return f"{notice.weight_percent} % of the users on {notice.about.candidate}"


def moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
