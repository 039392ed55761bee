"""What every benchmark ends with: a table for people, JSON for programs, and whether targets were met."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured figure; `at_most` is its target, None where there is none."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        return self.at_most is None or self.value <= self.at_most


def report(figures: Sequence[Figure], out: Path) -> int:
    """Print the table, write `out`, and return the exit status: 1 when a target was missed."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("figure", "measured", "target", "", "note"):
        table.add_column(heading, overflow="fold")
    for figure in figures:
        target = "" if figure.at_most is None else f"≤ {figure.at_most:g} {figure.unit}"
        verdict = "" if figure.at_most is None else "met" if figure.met else "MISSED"
        table.add_row(figure.name, f"{figure.value:.3g} {figure.unit}", target, verdict, figure.note)
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n", encoding="utf-8")
    print(f"written to {out}")
    return 0 if all(figure.met for figure in figures) else 1
