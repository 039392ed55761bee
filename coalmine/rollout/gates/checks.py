"""Gates that ask the world instead of counting requests: a query, a webhook.

One look is no evidence: a query may catch one bad moment. So many failing looks in a row as the plan
says (`breaches`) roll back; until then they hold. A look that could not be made holds as well, breaks no
row and never passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from coalmine.rollout.evidence import Poll
from coalmine.rollout.gates import GateReading, Verdict


@dataclass(frozen=True)
class CheckGate:
    """
    failing: failing looks in a row.
    said: what the last look said, and when that was an error or failed too seldom yet, this holds.
    """

    name: str
    breaches: int
    said: Verdict = Verdict.INCONCLUSIVE
    sentence: str = "not asked yet"
    value: float | None = None
    failing: int = 0

    def for_stage(self, margin: float) -> Self:  # noqa: ARG002 (a check has none)
        """A stage is not passed by what was asked in the one before."""
        return replace(self, said=Verdict.INCONCLUSIVE, sentence="not asked yet", value=None)

    def observe(self, poll: Poll) -> Self:  # noqa: ARG002
        return self

    def look(self, said: Verdict, sentence: str, value: float | None) -> Self:
        """The gate after one more look of its check."""
        failing = {Verdict.FAIL: self.failing + 1, Verdict.ERROR: self.failing}.get(said, 0)
        return replace(self, said=said, sentence=sentence, value=value, failing=failing)

    def reading(self) -> GateReading:
        failed = self.said is Verdict.FAIL
        verdict = Verdict.INCONCLUSIVE if failed and self.failing < self.breaches else self.said
        row = f" ({self.failing} of {self.breaches} looks in a row)" if self.failing else ""
        return GateReading(
            self.name,
            0.0,
            0.0,
            self.value,
            None,
            self.sentence + row,
            verdict=verdict,
            by_evidence=False,
            numbers={"failing": self.failing, "breaches": self.breaches},
        )
