"""The measurements as tables for people: one row for each server, medians of the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving.contenders import LAYER, OURS, Contender
from benchmarks.serving.load import SHARES
from benchmarks.serving.rounds import Load, Round

_WIDTH = 120


def print_servers(title: str, contenders: Sequence[Contender], rounds: Sequence[Round]) -> None:
    """rounds: of this case alone."""
    console = Console(width=_WIDTH)
    console.print(title, style="bold", highlight=False)
    console.print(_costs(contenders, rounds))
    for contender in contenders:
        if contender.note:
            console.print(f"  {contender.name}: {contender.note}", style="dim", highlight=False)
    console.print()
    console.print(_latencies(contenders, rounds))
    console.print()


def _costs(contenders: Sequence[Contender], rounds: Sequence[Round]) -> Table:
    """At saturation; medians of the rounds. The generator's share of its core is the highest of all."""
    table = _table(
        *("server", "requests/s", "lowest", "highest", "CPU µs/request", "MiB idle", "after load"),
        *("ready s", "generator", "failed"),
    )
    for contender in contenders:
        own = [each for each in rounds if each.server == contender.name]
        per_second = [each.saturation.measured.per_second for each in own]
        table.add_row(
            contender.name,
            *(f"{value:,.0f}" for value in (statistics.median(per_second), min(per_second), max(per_second))),
            f"{_median(own, lambda each: each.saturation.cpu_us):,.0f}",
            f"{_median(own, lambda each: each.idle_mib):.0f}",
            f"{_median(own, lambda each: each.loaded_mib):.0f}",
            f"{_median(own, lambda each: each.ready_s):.2f}",
            f"{max(load.measured.cpu_share for each in own for load in each.loads):.0%}",
            str(sum(each.failed for each in own)),
        )
    return table


def _latencies(contenders: Sequence[Contender], rounds: Sequence[Round]) -> Table:
    """Of all rounds together; "late" is the load generator's own: how late it sent, p99."""
    has_common = any(each.common is not None for each in rounds)
    at_common = ("at common/s", "p50", "p99", "p99.9") if has_common else ()
    table = _table("latency, ms", "at half/s", "p50", "p99", "p99.9", "late", *at_common)
    for contender in contenders:
        own = [each for each in rounds if each.server == contender.name]
        half, common = [each.half for each in own], [each.common for each in own if each.common is not None]
        late = statistics.median(each.measured.lag_ms["p99"] for each in half)
        table.add_row(
            contender.name,
            *(f"{half[0].rate:,.0f}", *map(_ms, pooled(half)), _ms(late)),
            *([f"{common[0].rate:,.0f}", *map(_ms, pooled(common))] if common else []),
        )
    return table


def print_steps(title: str, steps_us: Mapping[str, float], rounds: Sequence[Round]) -> None:
    """Where the time of one request of ours goes: `steps_us` beside what was measured from outside."""
    stack = _median([each for each in rounds if each.server == LAYER], lambda each: each.saturation.cpu_us)
    whole = _median([each for each in rounds if each.server == OURS], lambda each: each.saturation.cpu_us)
    rest = whole - stack - sum(steps_us.values())
    table = _table("step", "CPU µs")
    lines = {
        "its HTTP layer, and the kernel's part": stack,
        **steps_us,
        "not accounted for": rest,
        "whole": whole,
    }
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


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _median(rounds: Sequence[Round], measure: Callable[[Round], float]) -> float:
    return statistics.median(map(measure, rounds))


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
