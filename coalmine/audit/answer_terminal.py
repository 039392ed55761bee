"""An answer in a terminal: facts whole, tables without the columns and digits that have no room there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import assert_never

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coalmine.audit.answer import Answer, Facts, Sheet, moment

_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,52}(?:\.dir)?\b")
_GAP = 2  # after each column


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
                _print_rows(part, console)
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


def _print_rows(sheet: Sheet, console: Console) -> None:
    """As rich does it with a table, a thousand rows in a tenth of the time."""
    rows = [[_HASH.sub(r"\1", cell) for cell in row[: sheet.brief]] for row in sheet.rows]
    heads = list(sheet.heads[: sheet.brief])
    widths = _widths([heads, *rows], console.width)
    console.print(*_lines(heads, widths, console), sep="\n", style="dim", highlight=False, markup=False)
    # Past rich's own look at each word: the lines have the console's width already.
    console.out(*(line for row in rows for line in _lines(row, widths, console)), sep="\n", highlight=False)


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Of each column, as its widest cell needs it; the widest columns give way where that is too much."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + _GAP * len(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _lines(row: Sequence[str], widths: Sequence[int], console: Console) -> Iterator[str]:
    folded = [_folded(cell, width, console) for cell, width in zip(row, widths, strict=True)]
    for cells in zip_longest(*folded, fillvalue=""):
        yield "".join(set_cell_size(cell, width + _GAP) for cell, width in zip(cells, widths, strict=True))


def _folded(cell: str, width: int, console: Console) -> list[str]:
    if cell_len(cell) <= width:
        return [cell]
    return [line.plain.rstrip() for line in Text(cell).wrap(console, width, overflow="fold")]
