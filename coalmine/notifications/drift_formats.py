"""What `coalmine watch` found as each service takes it: one message for all that one look made news. Pure."""

from __future__ import annotations

from typing import assert_never

from coalmine.drift.alerts import Notice, Open
from coalmine.notifications.formats import Card, Format, iso, moment, slack, teams

_SHOWN = 10  # findings in words; all of them are in `coalmine watch --once`, and in JSON
# Alertmanager drops an alert when its time is over. This one is told once, and its end by the notice that
# resolves it.
_STANDS_FOR_S = 30 * 86_400.0


def drift_payload(form: Format, environment: str, notice: Notice, host: str) -> object:
    """What is posted, ready for JSON. host: the machine that watches."""
    match form:
        case Format.SLACK:
            return slack(_card(environment, notice, host))
        case Format.TEAMS:
            return teams(_card(environment, notice, host))
        case Format.ALERTMANAGER:
            return [
                *(
                    _alert(environment, each, each.first_s, notice.at_s + _STANDS_FOR_S)
                    for each in notice.appeared
                ),
                *(_alert(environment, each, each.first_s, notice.at_s) for each in notice.ended),
            ]
        case Format.JSON:
            return _json(environment, notice, host)
        case other:
            assert_never(other)


def heading(environment: str, notice: Notice) -> str:
    appeared, ended = len(notice.appeared), len(notice.ended)
    counted = [f"{appeared} new"] * bool(appeared) + [f"{ended} over"] * bool(ended)
    return f"{environment} and Git: {', '.join(counted)}"


def sentence(notice: Notice) -> str:
    """All of it in words; of many findings the first."""
    lines = [
        f"{_name(each)}: expected {each.finding.expected}; seen {each.finding.seen}."
        for each in notice.appeared
    ]
    lines += [f"Over: {_name(each)}." for each in notice.ended]
    more = [f"And {len(lines) - _SHOWN} more: coalmine watch --once"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more])


def _card(environment: str, notice: Notice, host: str) -> Card:
    return Card(
        title=heading(environment, notice),
        sentence=sentence(notice),
        colour="attention" if notice.appeared else "good",
        steps=[(_name(each), each.finding.remedy) for each in notice.appeared[:_SHOWN]],
        context=f"{moment(notice.at_s)} · coalmine watch on {host}",
        facts={"When": moment(notice.at_s), "Watched by": host},
    )


def _name(each: Open) -> str:
    finding = each.finding
    return " ".join(filter(None, (finding.model, finding.subject, f"({finding.kind})")))


def _alert(environment: str, each: Open, starts_at_s: float, ends_at_s: float) -> dict[str, object]:
    finding = each.finding
    labels = {
        "alertname": "CoalmineDrift",
        "severity": "warning",
        "environment": environment,
        "kind": finding.kind.value,
        "model": finding.model,
        "subject": finding.subject,
    }
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {
            "summary": f"{environment} is not as Git says: {_name(each)}",
            "description": f"Expected {finding.expected}; seen {finding.seen}.",
            "commands": finding.remedy,
        },
        "startsAt": iso(starts_at_s),
        "endsAt": iso(ends_at_s),
    }


def _json(environment: str, notice: Notice, host: str) -> dict[str, object]:
    return {
        "schema_version": 1,
        "environment": environment,
        "number": notice.number,
        "at": iso(notice.at_s),
        "title": heading(environment, notice),
        "appeared": [_finding(each) for each in notice.appeared],
        "ended": [_finding(each) for each in notice.ended],
        "host": host,
    }


def _finding(each: Open) -> dict[str, object]:
    finding = each.finding
    return {
        "kind": finding.kind.value,
        "model": finding.model,
        "subject": finding.subject,
        "since": iso(each.first_s),
        "expected": finding.expected,
        "seen": finding.seen,
        "remedy": finding.remedy,
    }
