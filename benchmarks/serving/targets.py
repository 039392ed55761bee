"""What the benchmark promises, judged on what was measured.

A ratio is taken between two servers within each round, so that both saw the same machine; its
median counts and its spread is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.serving.contenders import BARE, LAYER, OURS, SILENT
from benchmarks.serving.peers import KSERVE
from benchmarks.serving.rounds import Round
from benchmarks.table import Figure

TIMES_KSERVE, SHARE_OF_BARE, TIMES_BARE_P99, READY_S = 10.0, 0.8, 2.0, 2.0
GENERATOR_SHARE = 0.95  # of its core; above it, the figure would be the generator's

Measure = Callable[[Round], float]


def judge(rounds: Sequence[Round], ready_s: Sequence[float], ready_of: str) -> list[Figure]:
    """ready_s: starts of our server for the release `ready_of`."""
    cases = list(dict.fromkeys(each.case for each in rounds))
    own = [each for each in rounds if each.server in (OURS, BARE)]
    return [
        *(figure for case in cases for figure in _of_case(rounds, case, is_judged=case == "trees")),
        Figure(
            f"start to ready, {ready_of}",
            statistics.median(ready_s),
            "s",
            at_most=READY_S,
            note=f"median of {len(ready_s)}, {_range(ready_s)} s",
        ),
        Figure("requests without a correct answer, ours and bare", sum(each.failed for each in own), "", 0),
        Figure(
            "the load generator's share of its core, at most",
            max(load.measured.cpu_share for each in rounds for load in each.loads),
            "",
            at_most=GENERATOR_SHARE,
            note=_ceiling(rounds),
        ),
    ]


def _of_case(rounds: Sequence[Round], case: str, *, is_judged: bool) -> list[Figure]:
    figures = []
    if kserves := ratios(rounds, case, OURS, KSERVE, _throughput):
        figures.append(
            Figure(
                f"{case}: throughput, ours / KServe",
                statistics.median(kserves),
                "x",
                note=_range(kserves),
                at_least=TIMES_KSERVE if is_judged else None,
            )
        )
    bares = ratios(rounds, case, OURS, BARE, _throughput)
    figures.append(
        Figure(
            f"{case}: throughput, ours / bare stack",
            statistics.median(bares),
            "x",
            note=_range(bares),
            at_least=SHARE_OF_BARE if is_judged else None,
        )
    )
    tails = ratios(rounds, case, OURS, BARE, _p99_at_half)
    figures.append(
        Figure(
            f"{case}: p99 at half load, ours / bare stack",
            statistics.median(tails),
            "x",
            note=_range(tails),
            at_most=TIMES_BARE_P99 if is_judged else None,
        )
    )
    if layers := ratios(rounds, case, OURS, LAYER, _throughput):
        name = f"{case}: throughput, ours / its own HTTP layer, bare"
        figures.append(Figure(name, statistics.median(layers), "x", note=_range(layers)))
    spent = ratios(rounds, case, OURS, BARE, _cpu_us)
    name = f"{case}: processor time per request, ours / bare stack"
    figures.append(Figure(name, statistics.median(spent), "x", note=_range(spent)))
    if costs := pairs(rounds, case, OURS, SILENT, _cpu_us):
        added = [ours - silent for ours, silent in costs]
        figures.append(
            Figure(
                f"{case}: processor time that telemetry adds to a request",
                statistics.median(added),
                "µs",
                note=_range(added),
            )
        )
    return figures


def pairs(
    rounds: Sequence[Round], case: str, first: str, second: str, measure: Measure
) -> list[tuple[float, float]]:
    """What each round measured of both servers; empty where one of them was not there."""
    of_first, of_second = (
        [measure(each) for each in rounds if (each.case, each.server) == (case, server)]
        for server in (first, second)
    )
    return list(zip(of_first, of_second, strict=True)) if of_first and of_second else []


def ratios(rounds: Sequence[Round], case: str, first: str, second: str, measure: Measure) -> list[float]:
    return [one / other for one, other in pairs(rounds, case, first, second, measure)]


def _throughput(each: Round) -> float:
    return each.saturation.measured.per_second


def _p99_at_half(each: Round) -> float:
    return each.half.measured.latency_ms["p99"]


def _cpu_us(each: Round) -> float:
    return each.saturation.cpu_us


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def _ceiling(rounds: Sequence[Round]) -> str:
    """What the generator could ask of a server that costs nothing, found with the fastest there is."""
    fastest = max((each.saturation.measured for each in rounds), key=lambda each: each.per_second)
    return f"a whole core asks {fastest.per_second / fastest.cpu_share:,.0f} requests/s"
