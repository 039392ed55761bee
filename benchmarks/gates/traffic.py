"""One world's requests, drawn as they are asked for; what users lose is counted here, at the load.

A failed request of the candidate is excess when it would have succeeded on stable: of the candidate's
failures the share 1 - stable_rate / candidate_rate, drawn. Nothing that a method measures enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.gates.worlds import World

HORIZON_S = 3_600.0  # exposure is counted until then, whatever was decided


@dataclass(frozen=True)
class Window:
    """Requests and failures of both arms in some seconds."""

    candidate: int
    candidate_failed: int
    stable: int
    stable_failed: int


class Traffic:
    """`excess` is what users lost so far by the candidate."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.now_s = 0.0
        self.excess = 0

    def advance(self, seconds: float, weight: float) -> Window:
        """The next `seconds`, with the candidate at `weight`."""
        return self._next(seconds, weight, is_mirrored=False)

    def mirror(self, seconds: float) -> Window:
        """The next `seconds`, every request of stable's users copied to the candidate; nobody loses."""
        return self._next(seconds, 0.0, is_mirrored=True)

    def finish(self, weight: float) -> None:
        """The rest until the horizon, with the candidate at `weight`."""
        world, rest = self.world, HORIZON_S - self.now_s
        if rest <= 0:
            return
        faulty_s = HORIZON_S - max(self.now_s, world.onset_s)
        if weight > 0 and faulty_s > 0 and world.candidate_rate > world.stable_rate:
            lost = world.candidate_rate - world.stable_rate
            load = world.load(HORIZON_S - faulty_s, HORIZON_S)
            self.excess += int(self.rng.poisson(load * faulty_s * weight * lost))
        self.now_s = HORIZON_S

    def history(self, polls: int, poll_s: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Stable's requests and failures by poll before the rollout, all users on it."""
        world = self.world
        starts = -poll_s * np.arange(polls, 0, -1)
        load = np.array([world.load(start, start + poll_s) for start in starts])
        requests = self.rng.poisson(load * poll_s)
        return requests, self.rng.binomial(requests, self._burst_rates(polls, poll_s))

    # --- drawing -----------------------------------------------------------------------

    def _next(self, seconds: float, weight: float, *, is_mirrored: bool) -> Window:
        start, end = self.now_s, self.now_s + seconds
        self.now_s = end
        if self.world.bursts is not None:
            return self._with_bursts(start, end, weight)
        onset = self.world.onset_s
        if start < onset < end:
            before = self._steady(start, onset, weight, is_mirrored=is_mirrored)
            after = self._steady(onset, end, weight, is_mirrored=is_mirrored)
            return Window(
                before.candidate + after.candidate,
                before.candidate_failed + after.candidate_failed,
                before.stable + after.stable,
                before.stable_failed + after.stable_failed,
            )
        return self._steady(start, end, weight, is_mirrored=is_mirrored)

    def _steady(self, start: float, end: float, weight: float, *, is_mirrored: bool) -> Window:
        """From `start` to `end`, between which no rate changes."""
        world, rng = self.world, self.rng
        requests = int(rng.poisson(world.load(start, end) * (end - start)))
        candidate = requests if is_mirrored else int(rng.binomial(requests, weight)) if weight else 0
        stable = requests if is_mirrored else requests - candidate
        rate = world.candidate_rate if start >= world.onset_s else world.stable_rate
        failed = int(rng.binomial(candidate, rate)) if candidate else 0
        if failed and rate > world.stable_rate and not is_mirrored:
            self.excess += int(rng.binomial(failed, 1 - world.stable_rate / rate))
        return Window(candidate, failed, stable, int(rng.binomial(stable, world.stable_rate)))

    def _with_bursts(self, start: float, end: float, weight: float) -> Window:
        """Second by second; both arms have bursts, each its own, so none of them is the candidate's fault."""
        world, rng = self.world, self.rng
        seconds = np.arange(int(start), max(int(end), int(start) + 1))
        requests = rng.poisson(world.load(start, end) * (end - start) / len(seconds), len(seconds))
        candidate = rng.binomial(requests, weight)
        of_candidate, of_stable = (rates[seconds] for rates in self._rates_by_second)
        faulty = seconds >= world.onset_s
        of_candidate = of_candidate + faulty * (world.candidate_rate - world.stable_rate)
        failed = rng.binomial(candidate, of_candidate)
        fault = np.where(faulty, 1 - world.stable_rate / world.candidate_rate, 0.0)
        self.excess += int(rng.binomial(failed, fault).sum())
        stable = requests - candidate
        return Window(
            int(candidate.sum()),
            int(failed.sum()),
            int(stable.sum()),
            int(rng.binomial(stable, of_stable).sum()),
        )

    @cached_property
    def _rates_by_second(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Both arms' rates without the candidate's fault, to a little beyond the horizon."""
        seconds = int(HORIZON_S) + 600
        return self._burst_rates(seconds, 1.0), self._burst_rates(seconds, 1.0)

    def _burst_rates(self, steps: int, step_s: float) -> npt.NDArray[np.float64]:
        """One arm's rate of failures in each step, bursts included."""
        rates = np.full(steps, self.world.stable_rate)
        bursts = self.world.bursts
        if bursts is None:
            return rates
        in_burst = np.zeros(steps)
        for begin in self.rng.uniform(0, steps * step_s, self.rng.poisson(bursts.per_s * steps * step_s)):
            length = self.rng.exponential(bursts.length_s)
            first, last = int(begin / step_s), min(int((begin + length) / step_s), steps - 1)
            for step in range(first, last + 1):
                overlap = min(begin + length, (step + 1) * step_s) - max(begin, step * step_s)
                in_burst[step] = min(1.0, in_burst[step] + overlap / step_s)
        return np.minimum(rates + in_burst * bursts.rate, 1.0)
