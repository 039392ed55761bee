"""The measurements as tables for people: one row for each server, medians of the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving.contenders import BARE, OURS, Contender
from benchmarks.serving.load import SHARES
from benchmarks.serving.rounds import Load, Round

_WIDTH = 150


def print_servers(title: str, contenders: Sequence[Contender], rounds: Sequence[Round]) -> None:
    """rounds: of this case alone. Latencies are of all rounds together, everything else is a median.

    Of the load generator itself: how late it sent (p99 at half load), and its core's share at most.
    """
    table = _table()
    table.add_column("server", no_wrap=True)
    for heading in (
        *("requests/s", "spread", "CPU µs", "at half: req/s", "p50 ms", "p99", "p99.9"),
        *("at", "p50", "p99", "p99.9", "late", "MiB idle", "after", "ready s", "gen.", "failed"),
    ):
        table.add_column(heading, justify="right")
    for contender in contenders:
        own = [each for each in rounds if each.server == contender.name]
        common = [each.common for each in own if each.common is not None]
        table.add_row(
            contender.name,
            f"{_median(own, lambda each: each.saturation.measured.per_second):,.0f}",
            _spread([each.saturation.measured.per_second for each in own]),
            f"{_median(own, lambda each: each.saturation.cpu_us):,.0f}",
            f"{own[0].half.rate:,.0f}",
            *(_ms(value) for value in pooled([each.half for each in own])),
            *([f"{common[0].rate:,.0f}", *map(_ms, pooled(common))] if common else [""] * 4),
            _ms(_median(own, lambda each: each.half.measured.lag_ms["p99"])),
            f"{_median(own, lambda each: each.idle_mib):.0f}",
            f"{_median(own, lambda each: each.loaded_mib):.0f}",
            f"{_median(own, lambda each: each.ready_s):.2f}",
            f"{max(load.measured.cpu_share for each in own for load in each.loads):.0%}",
            str(sum(each.failed for each in own)),
        )
    console = Console(width=_WIDTH)
    console.print(title, style="bold", highlight=False)
    console.print(table)
    for contender in contenders:
        if contender.note:
            console.print(f"  {contender.name}: {contender.note}", style="dim", highlight=False)
    console.print()


def print_steps(title: str, steps_us: Mapping[str, float], rounds: Sequence[Round]) -> None:
    """Where the time of one request of ours goes: `steps_us` beside what was measured from outside."""
    stack = _median([each for each in rounds if each.server == BARE], lambda each: each.saturation.cpu_us)
    whole = _median([each for each in rounds if each.server == OURS], lambda each: each.saturation.cpu_us)
    rest = whole - stack - sum(steps_us.values())
    table = _table()
    table.add_column("step")
    table.add_column("CPU µs", justify="right")
    lines = {"HTTP stack (the bare stack's)": stack, **steps_us, "not accounted for": rest, "whole": whole}
    for step, spent_us in lines.items():
        table.add_row(step, f"{spent_us:.1f}")
    console = Console(width=_WIDTH)
    console.print(f"one request of {OURS}: {title}", style="bold", highlight=False)
    console.print(table)
    console.print()


def pooled(loads: Sequence[Load]) -> list[float]:
    """p50, p99 and p99.9 in milliseconds, of all requests of these loads."""
    seconds = np.concatenate([np.frombuffer(load.latencies_s) for load in loads])
    return [float(np.quantile(seconds, share, method="higher")) * 1000 for share in SHARES]


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="dim")


def _median(rounds: Sequence[Round], measure: Callable[[Round], float]) -> float:
    return statistics.median(map(measure, rounds))


def _spread(values: Sequence[float]) -> str:
    """From the lowest to the highest, about the median."""
    middle = statistics.median(values)
    return f"{min(values) / middle - 1:+.0%} {max(values) / middle - 1:+.0%}"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
