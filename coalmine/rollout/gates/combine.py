"""From the readings of all gates to one verdict on the stage.

Roll back when the mean of the gates' e-values reaches 100: a mean of e-values is an e-value, so
a candidate that no gate's null condemns is rolled back with probability 1 % at most, over all
gates, stages and polls. Go on only when every gate, by itself, has ruled out that the candidate is
worse than the margin, and none suspects it: a test of all together needs no correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coalmine.rollout.gates import GateReading, Verdict

ROLL_BACK_E = 100.0
PROMOTE_E = 20.0
LAST_PROMOTE_E = 100.0

# A gate with this much evidence against the candidate holds the stage, whatever speaks for it.
SUSPICION_E = 2.0


@dataclass(frozen=True)
class Ruling:
    """gate: the one that decided: the most alarmed, or the least convinced; None when there is none."""

    verdict: Verdict
    gate: str | None
    reason: str


def verdict(readings: Sequence[GateReading], last: bool) -> Verdict:
    return ruling(readings, last).verdict


def ruling(readings: Sequence[GateReading], last: bool) -> Ruling:
    """What the gates together say of the stage.

    last: this is the bake, or the last stage before it, which ask for more evidence.
    """
    if not readings:
        return Ruling(Verdict.INCONCLUSIVE, None, "no gate has a reading yet")
    unmeasured = [r for r in readings if math.isnan(r.log_e_roll_back) or math.isnan(r.log_e_promote)]
    measured = [r for r in readings if r not in unmeasured]

    if measured:
        worst = max(measured, key=lambda r: r.log_e_roll_back)
        # An unmeasured gate counts as an e-value of 0, so that it can only make a false alarm rarer.
        log_mean = mean_log_e(measured) + math.log(len(measured) / len(readings))
        if log_mean >= math.log(ROLL_BACK_E):
            why = f"{_odds(log_mean)} that it is worse; {ROLL_BACK_E:g} to 1 rolls back"
            return Ruling(Verdict.FAIL, worst.gate, f"{worst.sentence} ({why})")
    if unmeasured:
        return Ruling(Verdict.ERROR, unmeasured[0].gate, f"{unmeasured[0].gate} could not be measured")
    if worst.log_e_roll_back >= math.log(SUSPICION_E):
        why = f"{_odds(worst.log_e_roll_back)} that it is worse; {SUSPICION_E:g} to 1 holds the stage"
        return Ruling(Verdict.INCONCLUSIVE, worst.gate, f"{worst.sentence} ({why})")

    least = min(readings, key=lambda r: r.log_e_promote)
    needed = LAST_PROMOTE_E if last else PROMOTE_E
    convinced = least.log_e_promote >= math.log(needed)
    why = f"{_odds(least.log_e_promote)} that it is good enough; {needed:g} to 1 goes on"
    return Ruling(
        Verdict.PASS if convinced else Verdict.INCONCLUSIVE, least.gate, f"{least.sentence} ({why})"
    )


def mean_log_e(readings: Sequence[GateReading]) -> float:
    """The log of the mean of the gates' roll-back e-values: what all the evidence comes to."""
    return float(np.logaddexp.reduce([r.log_e_roll_back for r in readings])) - math.log(len(readings))


def _odds(log_e: float) -> str:
    """An e-value for people, who need not know it beyond a million."""
    if log_e >= math.log(1e6):
        return "over a million to 1"
    e_value = math.exp(log_e)
    return f"{e_value:,.0f} to 1" if e_value >= 10 else f"{e_value:.2g} to 1"
