"""What the gates promise, judged on what was measured; all in one configuration."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import binom

from benchmarks.gates import cases
from benchmarks.gates.cases import BURSTS, DAILY, GOOD, GOOD_HALF, LOADS, TIMES, WORSE, key
from benchmarks.gates.experiment import Floats, Result, ratio_interval
from benchmarks.gates.outcome import Ended
from benchmarks.table import Figure

MOST_FALSE = 0.01
# 36 of 2000 or more happen with p < .001 where the rate is 1 %.
_IMPLAUSIBLE = 0.001

# Flagger's exposure over ours, by load and by how many times stable's rate.
FLAGGER_OVER_OURS = {
    (50, 4): 4.0, (50, 10): 8.0, (50, 40): 30.0, (500, 4): 10.0, (500, 10): 40.0, (500, 40): 70.0
}  # fmt: skip
OVER_ORACLE = {cases.OURS_ONE: 1.5, cases.OURS_FOUR: 1.8}
SHADOW_MEAN_OF_A_DOUBLING = 3.0
MISSED_DOUBLINGS = 0.01
PROMOTED_WITHIN_S = {
    (50, cases.OURS): 480.0, (500, cases.OURS): 240.0,
    (50, cases.OURS_SHADOW): 390.0, (500, cases.OURS_SHADOW): 150.0,
}  # fmt: skip
FOUND_WITHIN_S = {
    (cases.SLOWER, cases.OURS): 90.0,
    (cases.SLOWER_TAIL, cases.OURS): 360.0,
    (cases.SHIFTED, cases.OURS_PREDICTIONS): 480.0,
}

Found = Mapping[str, Result]


def judge(found: Found, on_edge: Mapping[str, tuple[int, int]], rng: np.random.Generator) -> list[Figure]:
    """on_edge: of the candidates on a null's edge, (alarms, runs) by name."""
    return [
        *_false_roll_backs(found),
        *(_share(f"alarms on the edge, {name}", *counted) for name, counted in on_edge.items()),
        *_against_flagger(found, rng),
        *_against_oracle(found, rng),
        *_with_shadow(found),
        *_doublings(found),
        *_promotions(found),
        *_other_faults(found),
    ]


def _false_roll_backs(found: Found) -> list[Figure]:
    results = {good.name: found[key(good, cases.OURS)] for good in (*GOOD, BURSTS, DAILY)}
    figures = [
        _share(f"false roll-backs, {name}", result.count(Ended.ROLLED_BACK), result.runs)
        for name, result in results.items()
    ]
    counted = [(r.count(Ended.ROLLED_BACK), r.runs) for r in results.values()]
    figures.append(_share("false roll-backs, all", *(sum(each) for each in zip(*counted, strict=True))))
    bursty, steady = results[BURSTS.name], results[DAILY.name]
    slower = bursty.median_s(Ended.PROMOTED) / steady.median_s(Ended.PROMOTED)
    figures.append(Figure("promotion with bursts / without, medians", slower, "x"))
    return figures


def _share(name: str, count: int, runs: int) -> Figure:
    """A share that should be 1 % at most: missed where so many are implausible under that."""
    most = int(binom.isf(_IMPLAUSIBLE, runs, MOST_FALSE))
    result = f"{count} of {runs:,}, missed from {most + 1} on"
    return Figure(name, 100 * count / runs, "%", at_most=100 * most / runs, note=result)


def _against_flagger(found: Found, rng: np.random.Generator) -> list[Figure]:
    figures = []
    for (load, times), least in FLAGGER_OVER_OURS.items():
        worse = WORSE[times, load]
        flagger, ours = found[key(worse, cases.FLAGGER)].excess, found[key(worse, cases.OURS)].excess
        figures.append(_ratio(f"exposure, {worse.name}: Flagger / ours", flagger, ours, rng, at_least=least))
    return figures


def _against_oracle(found: Found, rng: np.random.Generator) -> list[Figure]:
    figures = []
    for method, most in OVER_ORACLE.items():
        for load in LOADS:
            for times in (each for each in TIMES if each >= 4):
                worse = WORSE[times, load]
                ours, oracle = found[key(worse, method)].excess, found[key(worse, cases.ORACLE)].excess
                name = f"exposure, {worse.name}: {method.name.removeprefix('coalmine, ')} / oracle"
                figures.append(_ratio(name, ours, oracle, rng, at_most=most))
    return figures


def _ratio(
    name: str,
    above: Floats,
    below: Floats,
    rng: np.random.Generator,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    low, high = ratio_interval(above, below, rng)
    value = float(above.mean() / max(below.mean(), 1e-9))
    note = f"{low:.3g} to {high:.3g}; {above.mean():.3g} / {below.mean():.3g} requests"
    return Figure(name, value, "x", at_most=at_most, at_least=at_least, note=note)


def _with_shadow(found: Found) -> list[Figure]:
    figures = []
    for times in TIMES:
        excess = found[key(WORSE[times, 50], cases.OURS_SHADOW)].excess
        name = f"users' failed requests, shadow first, {times}x at 50/s"
        if times == 2:
            mean = float(excess.mean())
            figures.append(Figure(f"{name}, mean", mean, "", at_most=SHADOW_MEAN_OF_A_DOUBLING))
        else:
            median = float(np.median(excess))
            figures.append(
                Figure(f"{name}, median", median, "", at_most=0.0, note=f"mean {excess.mean():.2g}")
            )
    return figures


def _doublings(found: Found) -> list[Figure]:
    figures = []
    for load in LOADS:
        result = found[key(WORSE[2, load], cases.OURS)]
        missed = result.count(Ended.PROMOTED)
        figures.append(_share(f"doublings missed at {load}/s", missed, result.runs))
    return figures


def _promotions(found: Found) -> list[Figure]:
    figures = []
    for (load, method), most in PROMOTED_WITHIN_S.items():
        result = found[key(GOOD_HALF[load], method)]
        name = f"good candidate promoted, {method.name}, {load}/s, median"
        note = f"{100 * result.share(Ended.PROMOTED):.3g} % promoted"
        figures.append(Figure(name, result.median_s(Ended.PROMOTED), "s", at_most=most, note=note))
    return figures


def _other_faults(found: Found) -> list[Figure]:
    figures = []
    for (scenario, method), most in FOUND_WITHIN_S.items():
        result = found[key(scenario, method)]
        note = f"{100 * result.share(Ended.ROLLED_BACK):.3g} % rolled back"
        # The median of all runs: one that never rolled back counts as never.
        times = [
            outcome.at_s if outcome.ended is Ended.ROLLED_BACK else float("inf")
            for outcome in result.outcomes
        ]
        figures.append(
            Figure(f"rolled back, {scenario.name}, median", float(np.median(times)), "s", most, note)
        )
    return figures
