"""What every method did in every scenario, side by side: nothing is told without the rest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.gates.experiment import Case, Result, mean_interval
from benchmarks.gates.outcome import Ended


def print_results(cases: Mapping[str, Case], found: Mapping[str, Result], rng: np.random.Generator) -> None:
    """One block for each scenario. Exposure is users' failed requests by the candidate, in an hour."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    headings = ("method", "runs", "rolled back, %", "promoted, %", "undecided, %", "exposure", "promoted, s")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for scenario in dict.fromkeys(case.scenario.name for case in cases.values()):
        table.add_section()
        table.add_row(f"[bold]{scenario}[/bold]")
        for key, case in cases.items():
            if case.scenario.name == scenario:
                table.add_row(*_row(case, found[key], rng))
    Console(width=150).print(table)


def _row(case: Case, result: Result, rng: np.random.Generator) -> tuple[str, ...]:
    low, high = result.interval(Ended.ROLLED_BACK)
    least, most = mean_interval(result.excess, rng)
    promoted = result.count(Ended.PROMOTED)
    return (
        case.method.name,
        f"{result.runs:,}",
        f"{100 * result.share(Ended.ROLLED_BACK):.3g} ({100 * low:.2g} to {100 * high:.3g})",
        f"{100 * result.share(Ended.PROMOTED):.3g}",
        f"{100 * result.share(Ended.UNDECIDED):.3g}",
        f"{result.excess.mean():.3g} ({least:.3g} to {most:.3g})",
        f"{result.median_s(Ended.PROMOTED):.0f}" if promoted else "",
    )
