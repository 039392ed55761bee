"""An answer as one HTML page for an audit file: it needs nothing else, no network and no script."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import assert_never

from coalmine.audit.answer import Answer, Facts, Part, Sheet, moment
from coalmine.audit.report.page import POLICY
from coalmine.audit.report.pieces import facts_list, section, table


def render(answer: Answer) -> str:
    """The whole page. Pure: the same answer gives the same bytes."""
    style = files("coalmine.audit.report").joinpath("page.css").read_text(encoding="utf-8")
    asked = facts_list(
        (
            ("Asked", moment(answer.asked)),
            ("Of the repository", answer.repository),
            ("At its commit", answer.head),
        )
    )
    limits = "".join(f"<li>{escape(sentence)}</li>" for sentence in answer.limits)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(answer.question)}</title><style>{style}</style></head>\n"
        f'<body><main class="answer"><header><p class="course">Answered from Git alone</p>'
        f"<h1>{escape(answer.question)}</h1>{asked}</header>"
        f"{''.join(section(part.title, _content(part)) for part in answer.parts)}"
        f"{section('What the record cannot know', f'<ul>{limits}</ul>')}"
        f"<footer>Written by coalmine audit at {moment(answer.asked)}.</footer></main></body></html>\n"
    )


def _content(part: Part) -> str:
    match part:
        case Facts():
            return facts_list(part.facts)
        case Sheet(rows=()):
            return f"<p>{escape(part.nothing)}</p>"
        case Sheet():
            return table(part.heads, part.rows, kind="told")
        case other:
            assert_never(other)
