"""The agreement gate: in the shadow stage both arms answer the same request, and few answers may differ.

One number for each pair, and a fixed bound on its mean: to promote, the share of pairs that differ must
be shown to lie below the bound; to roll back, above it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from coalmine.rollout.evidence import Poll
from coalmine.rollout.gates import GateReading, Verdict
from coalmine.rollout_spec import AgreementSpec
from coalmine.statistics.bounded_mean import BoundedMean, Side

AT_MOST = AgreementSpec().at_most


@dataclass(frozen=True)
class AgreementGate:
    """above, below: the evidence that the share of different pairs lies above, below the bound."""

    above: BoundedMean
    below: BoundedMean
    compared: int = 0
    different: int = 0
    error: str = ""
    name: str = "agreement"

    @classmethod
    def start(cls, at_most: float = AT_MOST, name: str = "agreement") -> Self:
        above, below = (BoundedMean(side, at_most, 0.0, 1.0) for side in (Side.ABOVE, Side.BELOW))
        return cls(above, below, name=name)

    def for_stage(self, margin: float) -> Self:  # noqa: ARG002 (its bound is fixed)
        fresh = BoundedMean(self.below.side, self.below.bound, self.below.low, self.below.high)
        return replace(self, below=fresh)

    def observe(self, poll: Poll) -> Self:
        if poll.pairs is None:
            why = "; ".join(poll.missing) or "nothing compares the two answers to one request here"
            return replace(self, error=why)
        compared, different = poll.pairs.compared, poll.pairs.different
        bins, counts = ((0.0, 0.0), (1.0, 1.0)), (compared - different, different)
        return replace(
            self,
            above=self.above.with_values(bins, counts),
            below=self.below.with_values(bins, counts),
            compared=self.compared + compared,
            different=self.different + different,
            error="",
        )

    def reading(self) -> GateReading:
        return GateReading(
            self.name,
            self.above.log_e,
            self.below.log_e,
            self.different / self.compared if self.compared else None,
            None,
            self.error or self._sentence(),
            verdict=Verdict.ERROR if self.error else None,
            numbers={"compared": self.compared, "different": self.different, "at_most": self.above.bound},
        )

    def _sentence(self) -> str:
        if not self.compared:
            return "no pair of answers was compared yet"
        return f"{self.different:,} of {self.compared:,} pairs of answers differ, {self.above.bound:.2%} may"
