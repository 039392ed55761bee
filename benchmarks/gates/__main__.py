"""How often good releases are rolled back in error, and what bad ones cost users, beside other tools.

python -m benchmarks.gates [--quick] [--seed N] [--end-to-end]

Worlds are drawn from published ranges by a seed that is drawn when this starts and printed; `--seed` repeats
a run. `--quick` (under 45 s) has fewer runs, so that its figures are rough and only gross misses show.
`--end-to-end` drives rollouts through the real proxy with injected faults, and compares with the simulation.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.gates import boundary, chart
from benchmarks.gates.best import best_of_each
from benchmarks.gates.cases import FULL, GOOD_HALF, LOADS, OURS, PEERS, QUICK, TIMES, WORSE, key, ours, peers
from benchmarks.gates.chart import Dot
from benchmarks.gates.experiment import Case, Result, mean_interval, run_all
from benchmarks.gates.outcome import Ended, Method
from benchmarks.gates.tables import print_results
from benchmarks.gates.targets import judge
from benchmarks.table import report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 45 s: fewer runs, no peers' best")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat the run that printed it")
    parser.add_argument("--end-to-end", action="store_true", help="through the real proxy")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gates.json"))
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.end_to_end:
        from benchmarks.gates import end_to_end  # the embedded stack, which nothing else here needs

        return end_to_end.main(seed=arguments.seed)
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    return _run(seed, is_quick=arguments.quick, out=arguments.out)


def _run(seed: int, *, is_quick: bool, out: Path) -> int:
    began, runs = time.monotonic(), QUICK if is_quick else FULL
    print(f"seed {seed}", flush=True)
    best: dict[int, dict[str, Method]] = {}
    if not is_quick:
        best = {load: best_of_each(seed + 1, load) for load in LOADS}
        for load, methods in best.items():
            named = "; ".join(f"{family}: {method.name}" for family, method in methods.items())
            print(f"best at {load}/s with at most 1 % false roll-backs: {named}", flush=True)
    chosen = {method.name: method for methods in best.values() for method in methods.values()}
    cases = ours(runs) | peers(runs, (*PEERS, *chosen.values()))
    found = run_all(cases, seed)
    print(f"{sum(each.runs for each in found.values()):,} rollouts in {time.monotonic() - began:.0f} s")
    on_edge = _on_edge(seed, is_quick=is_quick)
    rng = np.random.default_rng(seed)
    print_results(cases, found, rng)
    drawing = out.with_suffix(".svg")
    drawing.parent.mkdir(parents=True, exist_ok=True)
    drawing.write_text(chart.draw([_panel(load, found, best) for load in LOADS]), encoding="utf-8")
    figures = judge(found, on_edge, rng)
    status = report(figures, out, {"seed": seed, "results": _results(cases, found, rng)})
    print(f"drawn to {drawing}; seed {seed}; {time.monotonic() - began:.0f} s")
    return status


def _on_edge(seed: int, *, is_quick: bool) -> dict[str, tuple[int, int]]:
    """Alarms and runs of candidates on a null's edge, by name."""
    runs, rates = (100, boundary.BASE_RATES[1:2]) if is_quick else (2_000, boundary.BASE_RATES)
    return {
        f"{name}, {100 * base:g} %, {boundary.LOOKS:,} looks": (
            boundary.alarms(question, null, base, runs, seed),
            runs,
        )
        for name, (question, null) in boundary.NULLS.items()
        for base in rates
    }


def _panel(
    load: int, found: Mapping[str, Result], best: Mapping[int, Mapping[str, Method]]
) -> tuple[str, list[Dot]]:
    own_best = {method.name for method in best.get(load, {}).values()}
    methods = {method.name: method for method in (OURS, *PEERS, *best.get(load, {}).values())}
    dots = []
    for name, method in methods.items():
        good = found[key(GOOD_HALF[load], method)]
        false, interval = good.share(Ended.ROLLED_BACK), good.interval(Ended.ROLLED_BACK)
        means = [float(found[key(WORSE[times, load], method)].excess.mean()) for times in TIMES]
        exposure = math.exp(sum(math.log(max(mean, 0.1)) for mean in means) / len(means))
        kind = "ours" if method is OURS else "best" if name in own_best else "peer"
        dots.append(Dot(name, kind, false, interval, exposure))
    return f"{load} requests per second, stable fails .5 %", dots


def _results(
    cases: Mapping[str, Case], found: Mapping[str, Result], rng: np.random.Generator
) -> list[dict[str, object]]:
    return [
        {
            "scenario": case.scenario.name,
            "method": case.method.name,
            "runs": found[name].runs,
            **{ended.value: found[name].count(ended) for ended in Ended},
            "exposure": float(found[name].excess.mean()),
            "exposure_interval": mean_interval(found[name].excess, rng),
            "promoted_median_s": _none_if_nan(found[name].median_s(Ended.PROMOTED)),
            "rolled_back_median_s": _none_if_nan(found[name].median_s(Ended.ROLLED_BACK)),
        }
        for name, case in cases.items()
    ]


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


if __name__ == "__main__":
    sys.exit(main())
