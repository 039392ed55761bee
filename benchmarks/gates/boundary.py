"""Candidates exactly on a null's edge, looked at more than a thousand times: the guarantee's hardest case.

Stable's rate drifts and the weight changes meanwhile. The e-processes are the real ones; the runs stand
side by side as events of one, so that all of them share the numbers of requests.
"""

from __future__ import annotations

import math

import numpy as np

from coalmine.rollout.gates import errors
from coalmine.statistics.eprocess import EProcess, Null, Question, TwoArmCounts

LOOKS = 1_200
ALARM = math.log(100)  # 1 % of the runs at most ever reach it
NULLS = {
    "roll back": (Question.ROLL_BACK, errors.ROLL_BACK),
    "promote": (Question.PROMOTE, Null(errors.PROMOTE_RATIO, 0.0025)),
}
BASE_RATES = (0.001, 0.005, 0.015, 0.05)


def alarms(question: Question, null: Null, base: float, runs: int, seed: int) -> int:
    """How many of the runs ever reach 100 in `LOOKS` looks."""
    rng = np.random.default_rng([seed, round(base * 1e6), len(question)])
    process = EProcess.start(question, null, runs)
    past = TwoArmCounts(0, 0, (0,) * runs, (0,) * runs)
    ever = np.zeros(runs, bool)
    for look in range(LOOKS):
        weight = (0.05, 0.25, 0.5)[look * 3 // LOOKS]
        stable = base * (1 + 0.5 * math.sin(look / 90))
        requests = int(rng.poisson(100))
        to_candidate = int(rng.binomial(requests, weight))
        poll = TwoArmCounts(
            to_candidate,
            requests - to_candidate,
            tuple(rng.binomial(to_candidate, null.ratio * stable + null.delta, runs).tolist()),
            tuple(rng.binomial(requests - to_candidate, stable, runs).tolist()),
        )
        process = process.with_poll(poll, weight, past)
        past = past + poll
        ever |= np.array(process.log_e_by_event) >= ALARM
    return int(ever.sum())
