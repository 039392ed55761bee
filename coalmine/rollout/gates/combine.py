"""From the readings of all gates to one verdict on the stage.

Roll back when the mean of the gates' e-values, by stakes that are fixed, reaches 100: such a mean is
an e-value, so a candidate that no gate's null condemns is rolled back with probability 1 % at most, over all
gates, stages and polls. Go on only when every gate, by itself, has ruled out that the candidate is
worse than the margin, and none suspects it: a test of all together needs no correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    deciding = [r for r in readings if not r.dry_run]
    asked = [r for r in deciding if r.asked]
    failed = _roll_back(deciding)
    if failed is not None:
        return failed
    unmeasured = next((r for r in asked if not _is_measured(r)), None)
    if unmeasured is not None:
        return Ruling(
            Verdict.ERROR, unmeasured.gate, f"{unmeasured.gate} could not be measured: {unmeasured.sentence}"
        )
    if not deciding:
        return Ruling(Verdict.INCONCLUSIVE, None, "no gate has a reading yet")
    evidence = [r for r in asked if r.by_evidence]
    worst = max(evidence, key=lambda r: r.log_e_roll_back, default=None)
    if worst is not None and worst.log_e_roll_back >= math.log(SUSPICION_E):
        why = f"{_odds(worst.log_e_roll_back)} that it is worse; {SUSPICION_E:g} to 1 holds the stage"
        return Ruling(Verdict.INCONCLUSIVE, worst.gate, f"{worst.sentence} ({why})")
    waiting = next((r for r in asked if not r.by_evidence and r.verdict is not Verdict.PASS), None)
    if waiting is not None:
        return Ruling(Verdict.INCONCLUSIVE, waiting.gate, waiting.sentence)
    if not evidence:
        passed = "every check passed" if asked else "nothing is asked here"
        return Ruling(Verdict.PASS, None, passed)
    least = min(evidence, key=lambda r: r.log_e_promote)
    needed = _needed(last)
    convinced = least.log_e_promote >= math.log(needed)
    why = f"{_odds(least.log_e_promote)} that it is good enough; {needed:g} to 1 goes on"
    return Ruling(
        Verdict.PASS if convinced else Verdict.INCONCLUSIVE, least.gate, f"{least.sentence} ({why})"
    )


def judged(readings: Sequence[GateReading], last: bool) -> tuple[GateReading, ...]:
    """Each reading with the verdict that follows from it alone, as one of so many gates."""
    stakes = sum(r.stake for r in readings if r.by_evidence and not r.dry_run)
    return tuple(
        replace(r, verdict=_verdict(r, stakes + r.stake if r.dry_run else stakes, last)) for r in readings
    )


def _verdict(reading: GateReading, stakes: float, last: bool) -> Verdict:
    if reading.verdict is not None:
        return reading.verdict
    if not _is_measured(reading):
        return Verdict.ERROR
    if reading.log_e_roll_back + math.log(reading.stake / stakes) >= math.log(ROLL_BACK_E):
        return Verdict.FAIL
    suspects = reading.log_e_roll_back >= math.log(SUSPICION_E)
    convinced = reading.log_e_promote >= math.log(_needed(last))
    return Verdict.PASS if convinced and not suspects else Verdict.INCONCLUSIVE


def _roll_back(deciding: Sequence[GateReading]) -> Ruling | None:
    check = next((r for r in deciding if r.asked and r.verdict is Verdict.FAIL), None)
    if check is not None:
        return Ruling(Verdict.FAIL, check.gate, check.sentence)
    evidence = [r for r in deciding if r.by_evidence]
    known = [r for r in evidence if not math.isnan(r.log_e_roll_back)]
    if not known:
        return None
    # A gate without a number counts as an e-value of 0, so that it can only make a false alarm rarer.
    log_mean = mean_log_e(known) + math.log(_stakes(known) / _stakes(evidence))
    if log_mean < math.log(ROLL_BACK_E):
        return None
    worst = max(known, key=lambda r: r.log_e_roll_back)
    why = f"{_odds(log_mean)} that it is worse; {ROLL_BACK_E:g} to 1 rolls back"
    return Ruling(Verdict.FAIL, worst.gate, f"{worst.sentence} ({why})")


def _is_measured(reading: GateReading) -> bool:
    unknown = math.isnan(reading.log_e_roll_back) or math.isnan(reading.log_e_promote)
    return reading.verdict is not Verdict.ERROR and not unknown


def _needed(last: bool) -> float:
    return LAST_PROMOTE_E if last else PROMOTE_E


def mean_log_e(readings: Sequence[GateReading]) -> float:
    """The log of the mean of the gates' roll-back e-values, by their stakes: what all evidence comes to."""
    staked = [r.log_e_roll_back + math.log(r.stake) for r in readings]
    return float(np.logaddexp.reduce(staked)) - math.log(_stakes(readings))


def _stakes(readings: Sequence[GateReading]) -> float:
    return sum(reading.stake for reading in readings)


def _odds(log_e: float) -> str:
    """An e-value for people, who need not know it beyond a million."""
    if log_e >= math.log(1e6):
        return "over a million to 1"
    e_value = math.exp(log_e)
    return f"{e_value:,.0f} to 1" if e_value >= 10 else f"{e_value:.2g} to 1"
