"""Runs of a method over a scenario, reproducible from the seed, over all cores, and what they come to."""

from __future__ import annotations

import multiprocessing
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.gates.outcome import Ended, Method, Outcome
from benchmarks.gates.traffic import Traffic
from benchmarks.gates.worlds import Scenario
from coalmine.statistics.intervals import upper_limit

Floats = npt.NDArray[np.float64]

_RUNS_AT_ONCE = 10  # short tasks, so that no core waits long for the last one
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Case:
    """One method in one scenario, so many times. Every method meets the same worlds there."""

    scenario: Scenario
    method: Method
    runs: int


@dataclass(frozen=True)
class Result:
    """What the runs of one case came to."""

    outcomes: tuple[Outcome, ...]

    @property
    def runs(self) -> int:
        return len(self.outcomes)

    def count(self, ended: Ended) -> int:
        return sum(outcome.ended is ended for outcome in self.outcomes)

    def share(self, ended: Ended) -> float:
        return self.count(ended) / self.runs

    def interval(self, ended: Ended) -> tuple[float, float]:
        """95 %, Clopper & Pearson (1934)."""
        count = self.count(ended)
        low = 1 - float(upper_limit(self.runs - count, self.runs, 0.975))
        return low, float(upper_limit(count, self.runs, 0.975))

    @cached_property
    def excess(self) -> Floats:
        return np.array([outcome.excess for outcome in self.outcomes], float)

    def median_s(self, ended: Ended) -> float:
        """When the runs that ended so were decided; nan where none did."""
        times = [outcome.at_s for outcome in self.outcomes if outcome.ended is ended]
        return float(np.median(times)) if times else float("nan")


def mean_interval(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    means = _resampled(values, rng)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def ratio_interval(above: Floats, below: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio of two means."""
    ratios = _resampled(above, rng) / np.maximum(_resampled(below, rng), 1e-9)
    return float(np.quantile(ratios, 0.025)), float(np.quantile(ratios, 0.975))


def _resampled(values: Floats, rng: np.random.Generator) -> Floats:
    means: Floats = values[rng.integers(0, len(values), (_RESAMPLES, len(values)))].mean(axis=1)
    return means


def run(case: Case, seed: int, number: int) -> Outcome:
    """The `number`-th run of `case`."""
    scenario = zlib.crc32(case.scenario.name.encode())
    world = case.scenario.draw(np.random.default_rng([seed, scenario, number]))
    chance = np.random.default_rng([seed, scenario, number, zlib.crc32(case.method.name.encode())])
    return case.method.run(Traffic(world, chance))


def run_all(cases: Mapping[str, Case], seed: int) -> dict[str, Result]:
    """Every case, by its key; the same seed gives the same results on any number of cores."""
    tasks = [
        (key, case, seed, range(start, min(start + _RUNS_AT_ONCE, case.runs)))
        for key, case in cases.items()
        for start in range(0, case.runs, _RUNS_AT_ONCE)
    ]
    outcomes: dict[str, list[Outcome]] = {key: [] for key in cases}
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        for key, ended in pool.imap(_run_some, tasks):
            outcomes[key] += ended
    return {key: Result(tuple(ended)) for key, ended in outcomes.items()}


def _run_some(task: tuple[str, Case, int, Sequence[int]]) -> tuple[str, list[Outcome]]:
    key, case, seed, numbers = task
    return key, [run(case, seed, number) for number in numbers]
