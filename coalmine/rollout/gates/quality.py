"""The quality gate: once the true labels come, the candidate's answers must not have lost more.

Each labelled request has a loss in [0, 1], and the model servers sum them. A bounded loss may stand where
others count failures: l in [0, 1] has a**l b**(1-l) <= l a + (1-l) b, so that a bet on it pays no
more in expectation than on a coin of the same mean (Hoeffding 1963).

Labels come late, and by nobody's weight: bets rest on the labels that came, and without any nothing is
shown: the stage holds. A label counts in the stage in which it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from coalmine.rollout.evidence import AnswerCounts, Answers, Arm, Poll
from coalmine.rollout.gates import GateReading, Verdict, unread
from coalmine.rollout_spec import QualitySpec
from coalmine.statistics.comparison import Comparison
from coalmine.statistics.eprocess import Null, TwoArmCounts

_USUAL = QualitySpec()
ROLL_BACK = Null(_USUAL.worst_ratio, _USUAL.worst_difference)
PROMOTE_RATIO = 1.0


@dataclass(frozen=True)
class QualityGate:
    """error: why the servers' counts cannot be used; "" when they can."""

    comparison: Comparison
    error: str = ""
    name: str = "quality"

    @classmethod
    def start(
        cls,
        roll_back: Null = ROLL_BACK,
        promote_ratio: float = PROMOTE_RATIO,
        history: Answers | None = None,
        polls_per_start: int = 30,
        dispersion: float = 1.0,
        name: str = "quality",
    ) -> Self:
        """The gate before its first stage; parameters as those of the errors gate."""
        known = history or Answers("")
        before = TwoArmCounts(0, known.labels, (0,), (known.loss,))
        return cls(Comparison.start(roll_back, promote_ratio, before, polls_per_start, dispersion), name=name)

    def for_stage(self, margin: float) -> Self:
        return replace(self, comparison=self.comparison.for_stage(margin))

    def observe(self, poll: Poll) -> Self:
        if poll.unread:
            return replace(self, error=unread(poll))
        gate = replace(self, error="")
        if len(poll.answers) < len(Arm):
            return gate
        counts = _counts(poll.answers[Arm.CANDIDATE], poll.answers[Arm.STABLE])
        if poll.weight == 1:
            # Labels of stable's last requests still come: they belong to what it is remembered by.
            candidate = replace(counts, stable_requests=0, stable=(0,))
            return replace(gate, comparison=gate.comparison.with_poll(candidate, weight=1))
        return replace(gate, comparison=gate.comparison.with_realised_poll(counts))

    def reading(self) -> GateReading:
        seen = self.comparison.rollout
        return GateReading(
            self.name,
            self.comparison.log_e_roll_back,
            self.comparison.log_e_promote,
            seen.candidate_rate(event=0),
            seen.stable_rate(event=0),
            self.error or self._sentence(),
            verdict=Verdict.ERROR if self.error or self.comparison.has_no_stable else None,
            numbers={"candidate_labels": seen.candidate_requests, "stable_labels": seen.stable_requests},
        )

    def _sentence(self) -> str:
        seen = self.comparison.rollout
        candidate, stable = seen.candidate_rate(event=0), seen.stable_rate(event=0)
        if candidate is None or stable is None:
            without = "the candidate" if candidate is None else "stable"
            return f"no label has come yet for an answer of {without}"
        return (
            f"the candidate lost {candidate:.3g} by label in {seen.candidate_requests:,.0f} labels, "
            f"stable {stable:.3g} in {seen.stable_requests:,.0f}"
        )


def _counts(candidate: AnswerCounts, stable: AnswerCounts) -> TwoArmCounts:
    return TwoArmCounts(
        candidate.labels,
        stable.labels,
        (min(candidate.loss, candidate.labels),),
        (min(stable.loss, stable.labels),),
    )
