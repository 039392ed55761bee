"""The ranges that worlds are drawn from, published here and nowhere changed for one method's sake.

A world is what a rollout meets: load, stable's rate of failures, what the candidate does to it and since
when, bursts, the time of day. Seeds are drawn when the benchmark starts and printed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DAY_S = 86_400.0

BASE_RATES = ((0.001, 0.002), (0.002, 0.006), (0.006, 0.02), (0.02, 0.05))  # .1 to 5 %, in four ranges
USUAL_RATES = (0.003, 0.007)


@dataclass(frozen=True)
class Bursts:
    """Failures that come together inside one arm: since its servers restart or pause.

    per_s: how many begin in an arm, on average; length_s: mean of an exponential length.
    rate: the share of requests that fails meanwhile.
    """

    per_s: float
    length_s: float
    rate: float


@dataclass(frozen=True)
class Slowdown:
    """What the candidate does to durations: times `factor` for all of them, or for stable's slowest
    tenth alone, growing from there so that the 99th percentile is `factor` times stable's."""

    factor: float
    is_tail_only: bool


@dataclass(frozen=True)
class World:
    """
    stable_rate, candidate_rate: shares of requests that fail; the candidate's since `onset_s`.
    swing, phase: the load is requests_per_s (1 + swing sin(2 pi (t / day + phase))).
    median_s, spread: of log-normal durations, stable's. score, candidate_score: means of the predictions.
    """

    requests_per_s: float
    stable_rate: float
    candidate_rate: float
    onset_s: float = 0.0
    bursts: Bursts | None = None
    swing: float = 0.0
    phase: float = 0.0
    median_s: float = 0.08
    spread: float = 0.6
    slowdown: Slowdown | None = None
    score: float = 0.1
    candidate_score: float = 0.1

    def load(self, start_s: float, end_s: float) -> float:
        """The mean load, in requests per second, from `start_s` to `end_s`."""
        if self.swing == 0 or end_s <= start_s:
            return self.requests_per_s
        turn = 2 * math.pi / DAY_S
        begin, end = (turn * at + 2 * math.pi * self.phase for at in (start_s, end_s))
        return self.requests_per_s * (1 + self.swing * (math.cos(begin) - math.cos(end)) / (end - begin))


@dataclass(frozen=True)
class Scenario:
    """
    base: the range of stable's rate, log-uniform. times: the range of what it is multiplied with, None for
        a candidate as good as stable. `requests_per_s` varies by a tenth either way.
    late: half of the faults begin within the first two minutes, not at once.
    """

    name: str
    requests_per_s: float
    base: tuple[float, float]
    times: tuple[float, float] | None = None
    late: bool = False
    bursts: bool = False
    daily: bool = False
    slowdown: Slowdown | None = None
    candidate_score: float | None = None

    def draw(self, rng: np.random.Generator) -> World:
        stable = _log_uniform(rng, *self.base)
        score = rng.uniform(0.09, 0.11)
        return World(
            requests_per_s=self.requests_per_s * rng.uniform(0.9, 1.1),
            stable_rate=stable,
            candidate_rate=min(stable * rng.uniform(*self.times), 1.0) if self.times else stable,
            onset_s=rng.uniform(0, 120) if self.late and rng.random() < 0.5 else 0.0,
            bursts=_bursts(rng) if self.bursts else None,
            swing=rng.uniform(0.3, 0.7) if self.daily else 0.0,
            phase=rng.random(),
            median_s=_log_uniform(rng, 0.04, 0.16),
            spread=rng.uniform(0.4, 0.7),
            slowdown=self.slowdown,
            score=score,
            candidate_score=score * self.candidate_score if self.candidate_score else score,
        )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _bursts(rng: np.random.Generator) -> Bursts:
    """Every half minute to two minutes, of one to eight seconds, in which 3 to 15 % fail."""
    return Bursts(1 / rng.uniform(30, 120), rng.uniform(1, 8), rng.uniform(0.03, 0.15))


AROUND_HALF_PERCENT = (0.0045, 0.0055)


def regression(name: str, requests_per_s: float, times: float, *, late: bool = False) -> Scenario:
    """Stable at about .5 % failures, the candidate at `times` that, give or take a twentieth."""
    return Scenario(name, requests_per_s, AROUND_HALF_PERCENT, (0.95 * times, 1.05 * times), late=late)
