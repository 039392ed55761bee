"""An answer in a terminal: facts whole, tables without the columns and digits that have no room there."""

from __future__ import annotations

import re
from typing import assert_never

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coalmine.audit.answer import Answer, Facts, Sheet, moment

_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,52}(?:\.dir)?\b")


def print_answer(answer: Answer, console: Console) -> None:
    # Names and sentences are other people's words: no markup in them.
    console.print(f"\n{answer.question}", style="bold", highlight=False, markup=False)
    asked = f"{answer.repository} at {answer.head[:12]}, asked at {moment(answer.asked)}"
    console.print(asked, style="dim", highlight=False, markup=False)
    for part in answer.parts:
        console.print(f"\n{part.title}", highlight=False, markup=False)
        match part:
            case Facts():
                console.print(_facts(part))
            case Sheet(rows=()):
                console.print(f"  {part.nothing}", highlight=False, markup=False)
            case Sheet():
                console.print(_table(part))
            case other:
                assert_never(other)
    cut = [part for part in answer.parts if isinstance(part, Sheet) and part.brief < len(part.heads)]
    more = "\nMore columns, and whole digests: --csv, --json or --page FILE." if cut else ""
    console.print(f"{more}\n{' '.join(answer.limits)}", style="dim", highlight=False, markup=False)


def _facts(facts: Facts) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.facts:
        table.add_row(Text(name), Text(value))
    return table


def _table(sheet: Sheet) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in sheet.heads[: sheet.brief]:
        table.add_column(head, overflow="fold")
    for row in sheet.rows:
        table.add_row(*(Text(_HASH.sub(r"\1", cell)) for cell in row[: sheet.brief]))
    return table
