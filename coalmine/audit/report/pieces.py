"""The page's building blocks in HTML: sections, lists of facts, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n"


def facts_list(facts: Iterable[tuple[str, str]]) -> str:
    items = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<dl class="facts">{"".join(items)}</dl>'


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, last_is_total: bool = False, kind: str = ""
) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = []
    for number, row in enumerate(rows, 1):
        total = ' class="total"' if last_is_total and number == len(rows) else ""
        cells = f"<th>{escape(row[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        lines.append(f"<tr{total}>{cells}</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="table {kind}"><table>{body}</table></div>'
