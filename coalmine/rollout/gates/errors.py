"""The errors gate: the candidate must not fail more often than stable.

A failure is a request without an answer: 4xx, 5xx, timeout, reset, refused. Noise that clients
cause hits both arms alike; a candidate that refuses what stable accepts is worse. The method is
in coalmine.statistics.comparison, the thresholds in coalmine.rollout.gates.combine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from coalmine.rollout.evidence import ArmCounts, Counters, Poll
from coalmine.rollout.gates import GateReading, Verdict, bet
from coalmine.rollout_spec import ErrorsSpec
from coalmine.statistics.comparison import Comparison
from coalmine.statistics.eprocess import Null, TwoArmCounts

_USUAL = ErrorsSpec()
ROLL_BACK = Null(_USUAL.worst_ratio, _USUAL.worst_difference)
PROMOTE_RATIO = 1.25

UNKNOWN_STABLE = "stable answered nothing before it lost its users, so there is nothing to compare with"


# A failed request costs users more than a slow or a strange one, so failures are found sooner than those:
# of ln(gates), what sharing a false alarm with other gates costs, this one pays less and they pay more.
STAKE = 3.0


@dataclass(frozen=True)
class ErrorsGate:
    comparison: Comparison
    name: str = "errors"

    @classmethod
    def start(
        cls,
        roll_back: Null = ROLL_BACK,
        promote_ratio: float = PROMOTE_RATIO,
        history: Counters | None = None,
        polls_per_start: int = 30,
        dispersion: float = 1.0,
        name: str = "errors",
    ) -> Self:
        """The gate before its first stage.

        roll_back: how much worse than stable the candidate may be before it is rolled back.
        history: what stable counted before the rollout; makes the gate faster, never laxer.
        polls_per_start: the polls in a minute; a fault that starts late is looked for afresh
            from each.
        dispersion: how many requests are worth one independent one.
        """
        known = history or Counters(0, 0)
        before = TwoArmCounts(0, known.requests, (0,), (known.failures,))
        return cls(Comparison.start(roll_back, promote_ratio, before, polls_per_start, dispersion), name)

    def for_stage(self, margin: float) -> Self:
        return replace(self, comparison=self.comparison.for_stage(margin))

    def observe(self, poll: Poll) -> Self:
        counts = TwoArmCounts(
            poll.candidate.requests,
            poll.stable.requests,
            (_failures(poll.candidate),),
            (_failures(poll.stable),),
        )
        return replace(self, comparison=bet(self.comparison, counts, poll))

    def reading(self) -> GateReading:
        return GateReading(
            self.name,
            self.comparison.log_e_roll_back,
            self.comparison.log_e_promote,
            self.comparison.rollout.candidate_rate(event=0),
            self.comparison.rollout.stable_rate(event=0),
            UNKNOWN_STABLE if self.comparison.has_no_stable else self._sentence(),
            verdict=Verdict.ERROR if self.comparison.has_no_stable else None,
            stake=STAKE,
        )

    def _sentence(self) -> str:
        seen = self.comparison.rollout
        if not seen.candidate_requests:
            return "no requests on the candidate yet"
        candidate = (
            f"{seen.candidate[0]:,.0f} of {seen.candidate_requests:,.0f} requests failed on the candidate"
        )
        return f"{candidate}, {seen.stable[0]:,.0f} of {seen.stable_requests:,.0f} on stable"


def _failures(arm: ArmCounts) -> int:
    # Two counters that are read one after the other may disagree by a request.
    return min(arm.failures, arm.requests)
