"""An answer as one HTML page for an audit file: it needs nothing else, no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import assert_never

from coalmine.audit.answer import Answer, Facts, Part, Sheet, moment
from coalmine.audit.report.page import POLICY
from coalmine.audit.report.pieces import facts_list, section

_SHORT = len("2026-03-01 14:00:00 UTC")  # of a cell that stays in one line


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
            return _table(part)
        case other:
            assert_never(other)


def _table(sheet: Sheet) -> str:
    """The columns that are read first side by side, the others of a row in a line below it."""
    heads = "".join(f"<th>{escape(head)}</th>" for head in sheet.heads[: sheet.brief])
    rows = "".join(f"<tbody>{_row(sheet, row)}</tbody>" for row in sheet.rows)
    return f'<div class="table told"><table><thead><tr>{heads}</tr></thead>{rows}</table></div>'


def _row(sheet: Sheet, row: Sequence[str]) -> str:
    cells = "".join(map(_cell, row[: sheet.brief]))
    rest = zip(sheet.heads[sheet.brief :], row[sheet.brief :], strict=True)
    more = "".join(f"<span><i>{escape(head)}</i> {escape(cell)}</span>" for head, cell in rest if cell)
    below = f'<tr class="more"><td colspan="{sheet.brief}">{more}</td></tr>' if more else ""
    return f"<tr>{cells}</tr>{below}"


def _cell(words: str) -> str:
    """A time or a name stays in one line, a digest may break anywhere."""
    kind = ' class="short"' if len(words) <= _SHORT else ""
    return f"<td{kind}>{escape(words)}</td>"
