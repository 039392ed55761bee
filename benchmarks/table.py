"""What every benchmark ends with: a table for people, JSON for programs, and whether targets were met."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured figure; `at_most` and `at_least` are its targets, None where there is none."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    note: str = ""
    at_least: float | None = None

    @property
    def met(self) -> bool:
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def target(self) -> str:
        limits = {"≤": self.at_most, "≥": self.at_least}
        return ", ".join(
            f"{sign} {limit:g} {self.unit}" for sign, limit in limits.items() if limit is not None
        )


def report(figures: Sequence[Figure], out: Path, measurements: Mapping[str, object] | None = None) -> int:
    """Print the table, write `out`, and return the exit status: 1 when a target was missed.

    measurements: what the figures were made of, for the file alone.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("figure", "measured", "target", "", "note"):
        table.add_column(heading, overflow="fold")
    for figure in figures:
        verdict = "" if not figure.target else "met" if figure.met else "MISSED"
        table.add_row(figure.name, f"{figure.value:.3g} {figure.unit}", figure.target, verdict, figure.note)
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    found = [asdict(figure) for figure in figures]
    content = found if measurements is None else {"figures": found, **measurements}
    out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written to {out}")
    return 0 if all(figure.met for figure in figures) else 1
