"""Which scenarios are run, by whom, and how often.

coalmine has one configuration everywhere: its defaults. What is added is a shadow stage, or the gate that
a scenario is about, as a user would add it in model.yaml; and beside the oracle one gate, or four.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.gates.experiment import Case
from benchmarks.gates.ours import FOUR_GATES, ONE_GATE, PREDICTIONS, WITH_SHADOW, Coalmine
from benchmarks.gates.outcome import Method
from benchmarks.gates.peers import Argo, Flagger, Kayenta, Oracle, ZTest
from benchmarks.gates.worlds import (
    AROUND_HALF_PERCENT,
    BASE_RATES,
    USUAL_RATES,
    Scenario,
    Slowdown,
    regression,
)

OURS = Coalmine("coalmine")
OURS_SHADOW = Coalmine("coalmine, shadow first", WITH_SHADOW)
OURS_ONE = Coalmine("coalmine, one gate", ONE_GATE)
OURS_FOUR = Coalmine("coalmine, four gates", FOUR_GATES)
OURS_PREDICTIONS = Coalmine("coalmine, with predictions", PREDICTIONS)
ORACLE = Oracle()
FLAGGER = Flagger()
FINE_STEPS = tuple(weight / 100 for weight in range(2, 51, 2))
PEERS: tuple[Method, ...] = (
    FLAGGER,
    Flagger(threshold=1),
    Flagger(interval_s=10, stages=FINE_STEPS),
    Argo(limit=0),
    Argo(limit=3),
    Kayenta(),
    ZTest(),
)

LOADS = (50, 500)
TIMES = (2, 4, 10, 40)


@dataclass(frozen=True)
class Runs:
    """How often: good candidates in each range of base rates; regressions; doublings, which take longest;
    latency and scores; peers, which cost little."""

    good: int
    worse: int
    doubled: int
    other: int
    peers: int


FULL = Runs(good=300, worse=300, doubled=150, other=100, peers=1_000)
QUICK = Runs(good=8, worse=30, doubled=3, other=5, peers=120)


def base_name(base: tuple[float, float]) -> str:
    return f"good, {100 * base[0]:g} to {100 * base[1]:g} %"


def worse_name(times: int, load: int) -> str:
    return f"{times}x at {load}/s"


GOOD = tuple(Scenario(base_name(base), 50, base) for base in BASE_RATES)
GOOD_HALF = {load: Scenario(f"good, about .5 %, at {load}/s", load, AROUND_HALF_PERCENT) for load in LOADS}
BURSTS = Scenario("good, failures in bursts", 50, USUAL_RATES, bursts=True)
DAILY = Scenario("good, daily cycle of load", 50, USUAL_RATES, daily=True)
WORSE = {(times, load): regression(worse_name(times, load), load, times) for times in TIMES for load in LOADS}
LATE = regression("10x at 50/s, from late on", 50, 10, late=True)
SLOWER = Scenario("30 % slower, all", 50, AROUND_HALF_PERCENT, slowdown=Slowdown(1.3, is_tail_only=False))
SLOWER_TAIL = Scenario(
    "30 % slower, tail only", 50, AROUND_HALF_PERCENT, slowdown=Slowdown(1.3, is_tail_only=True)
)
SHIFTED = Scenario("mean score 1.4 times", 50, AROUND_HALF_PERCENT, candidate_score=1.4)


def key(scenario: Scenario, method: Method) -> str:
    return f"{scenario.name} | {method.name}"


def ours(runs: Runs) -> dict[str, Case]:
    """coalmine's side, and the oracle that it is held against."""
    asked: list[tuple[Scenario, Method, int]] = [(good, OURS, runs.good) for good in GOOD]
    asked += [(BURSTS, OURS, runs.good), (DAILY, OURS, runs.good)]
    for load in LOADS:
        asked += [(GOOD_HALF[load], method, runs.other) for method in (OURS, OURS_SHADOW)]
        for times in TIMES:
            worse = WORSE[times, load]
            asked.append((worse, OURS, runs.doubled if times == 2 else runs.worse))
            asked.append((worse, OURS_SHADOW, runs.doubled if times == 2 else runs.other))
            if times >= 4:
                asked += [(worse, method, runs.worse) for method in (OURS_ONE, OURS_FOUR)]
            asked.append((worse, ORACLE, runs.peers))
    asked += [(LATE, OURS, runs.other), (SLOWER, OURS, runs.other), (SLOWER_TAIL, OURS, runs.other)]
    asked += [(SHIFTED, OURS_PREDICTIONS, runs.other)]
    return _cases(asked)


def peers(runs: Runs, methods: tuple[Method, ...] = PEERS) -> dict[str, Case]:
    scenarios = (*GOOD, BURSTS, DAILY, *GOOD_HALF.values(), *WORSE.values(), LATE)
    return _cases([(scenario, method, runs.peers) for scenario in scenarios for method in methods])


def _cases(asked: list[tuple[Scenario, Method, int]]) -> dict[str, Case]:
    return {key(scenario, method): Case(scenario, method, runs) for scenario, method, runs in asked}
