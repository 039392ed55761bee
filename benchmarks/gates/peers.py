"""What other tools decide by, each from its documented rule, on the same traffic.

They see one metric, the candidate's share of failed requests (Kayenta and the z-test: stable's too), as the
tools' own documentation sets it up: at most 1 % unless told otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from benchmarks.gates.outcome import Outcome, promoted, rolled_back, undecided
from benchmarks.gates.traffic import HORIZON_S, Traffic, Window

STAGES = (0.05, 0.25, 0.5)


@dataclass(frozen=True)
class Flagger:
    """Flagger 1.44, pkg/controller/scheduler.go: every interval the last window alone is checked. A failed
    check, or one without data, stops the advance and adds one to a counter that no success resets; on the
    tick after the counter has reached the threshold it rolls back. After the last weight it promotes."""

    interval_s: float = 60.0
    threshold: int = 5
    most_failed: float = 0.01
    stages: tuple[float, ...] = STAGES

    @property
    def name(self) -> str:
        steps = "/".join(f"{100 * w:g}" for w in self.stages[:3]) + ("..." if len(self.stages) > 3 else "")
        return f"Flagger {self.interval_s:g} s x {self.threshold}, {100 * self.most_failed:g} %, {steps}"

    def run(self, traffic: Traffic) -> Outcome:
        stage = failed_checks = 0
        while traffic.now_s < HORIZON_S:
            window = traffic.advance(self.interval_s, self.stages[stage])
            if failed_checks >= self.threshold:
                return rolled_back(traffic)
            if _exceeds(window, self.most_failed):
                failed_checks += 1
            elif stage + 1 < len(self.stages):
                stage += 1
            else:
                return promoted(traffic)
        return undecided(traffic)


@dataclass(frozen=True)
class Argo:
    """Argo Rollouts 1.10, a background analysis: one measurement each interval; more than `limit` failed
    ones abort at once. Each step pauses; after the last pause it promotes. No data is an error, and more
    than four errors in a row abort too (consecutiveErrorLimit)."""

    limit: int = 0
    interval_s: float = 60.0
    pause_s: float = 300.0
    most_failed: float = 0.01
    stages: tuple[float, ...] = STAGES

    @property
    def name(self) -> str:
        return f"Argo limit {self.limit}, {self.interval_s:g} s, {100 * self.most_failed:g} %"

    def run(self, traffic: Traffic) -> Outcome:
        failures = errors = 0
        for weight in self.stages:
            for _ in range(round(self.pause_s / self.interval_s)):
                window = traffic.advance(self.interval_s, weight)
                errors = 0 if window.candidate else errors + 1
                failures += bool(window.candidate) and _exceeds(window, self.most_failed)
                if failures > self.limit or errors > 4:
                    return rolled_back(traffic)
        return promoted(traffic)


@dataclass(frozen=True)
class Kayenta:
    """Kayenta's judge (NetflixACAJudge, MannWhitneyClassifier): the candidate's share of failures minute by
    minute against stable's, by the Mann-Whitney confidence interval of their shift. High, when its lower
    end exceeds `tolerance` times the Hodges-Lehmann estimate; one metric that is high scores 0 and ends
    the canary. Judged every `every_s`, on all minutes so far, for ten minutes at each weight."""

    confidence: float = 0.98
    tolerance: float = 0.25
    every_s: float = 300.0
    stage_s: float = 600.0
    stages: tuple[float, ...] = STAGES

    @property
    def name(self) -> str:
        confidence = f"{100 * self.confidence:g} %"
        return f"Kayenta {confidence}, tolerance {self.tolerance:g}, every {self.every_s / 60:g} min"

    def run(self, traffic: Traffic) -> Outcome:
        candidate: list[float] = []
        stable: list[float] = []
        for weight in self.stages:
            for _ in range(round(self.stage_s / 60)):
                window = traffic.advance(60.0, weight)
                if window.candidate:
                    candidate.append(window.candidate_failed / window.candidate)
                if window.stable:
                    stable.append(window.stable_failed / window.stable)
                if traffic.now_s % self.every_s == 0 and self.is_high(candidate, stable):
                    return rolled_back(traffic)
        return promoted(traffic)

    def is_high(self, candidate: list[float], stable: list[float]) -> bool:
        m, n = len(candidate), len(stable)
        if m < 2 or n < 2:
            return False
        shifts = np.sort(np.subtract.outer(candidate, stable).ravel())
        # As R's wilcox.test has it: the interval's end is the k-th smallest of all differences.
        z = float(ndtri((1 + self.confidence) / 2))
        k = math.floor(m * n / 2 - z * math.sqrt(m * n * (m + n + 1) / 12))
        lower = float(shifts[k]) if k >= 0 else -math.inf
        return lower > self.tolerance * abs(float(np.median(shifts)))


@dataclass(frozen=True)
class ZTest:
    """What a dashboard invites to: a two-proportion z-test on all requests so far, looked at every 5 s,
    at a level of 1 % that holds for one look. Five minutes at each weight."""

    z: float = 2.326
    every_s: float = 5.0
    stage_s: float = 300.0
    stages: tuple[float, ...] = STAGES

    @property
    def name(self) -> str:
        return f"z-test > {self.z:g}, looked at every {self.every_s:g} s"

    def run(self, traffic: Traffic) -> Outcome:
        seen = Window(0, 0, 0, 0)
        for weight in self.stages:
            for _ in range(round(self.stage_s / self.every_s)):
                window = traffic.advance(self.every_s, weight)
                seen = _sum(seen, window)
                if self.score(seen) > self.z:
                    return rolled_back(traffic)
        return promoted(traffic)

    @staticmethod
    def score(seen: Window) -> float:
        failed = seen.candidate_failed + seen.stable_failed
        both = seen.candidate + seen.stable
        if not (seen.candidate and seen.stable and 0 < failed < both):
            return 0.0
        pooled = failed / both
        spread = math.sqrt(pooled * (1 - pooled) * (1 / seen.candidate + 1 / seen.stable))
        return (seen.candidate_failed / seen.candidate - seen.stable_failed / seen.stable) / spread


@dataclass(frozen=True)
class Oracle:
    """Wald's sequential test, told stable's rate and the fault's rate beforehand: no test that is wrong as
    seldom needs fewer requests on average (Wald & Wolfowitz 1948). Held at one weight until it rolls back;
    it never promotes, so that no miss of its own weighs on its exposure."""

    alpha: float = 0.01
    poll_s: float = 2.0
    weight: float = 0.05
    name: str = "Wald oracle"

    def run(self, traffic: Traffic) -> Outcome:
        base, fault = traffic.world.stable_rate, traffic.world.candidate_rate
        of_failure, of_answer = math.log(fault / base), math.log((1 - fault) / (1 - base))
        evidence = 0.0
        while traffic.now_s < HORIZON_S:
            window = traffic.advance(self.poll_s, self.weight)
            answered = window.candidate - window.candidate_failed
            evidence += window.candidate_failed * of_failure + answered * of_answer
            if evidence >= math.log(1 / self.alpha):
                return rolled_back(traffic)
        return undecided(traffic)


def _exceeds(window: Window, most_failed: float) -> bool:
    """No data is no success."""
    return not window.candidate or window.candidate_failed / window.candidate > most_failed


def _sum(one: Window, other: Window) -> Window:
    return Window(
        one.candidate + other.candidate,
        one.candidate_failed + other.candidate_failed,
        one.stable + other.stable,
        one.stable_failed + other.stable_failed,
    )
