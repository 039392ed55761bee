"""Why a model is due, as the record of the retraining that follows will say it."""

from __future__ import annotations

from typing import Literal

from coalmine.manifest import Trigger, Value


class Cause(Value):
    """
    who: the author of a change, as Git has it; what was watched, of lost quality and of a shift.
    because: for people, in one sentence.
    key: the same for the same cause, so that nobody retrains twice for it.
    """

    kind: Literal["change", "quality", "drift"]
    who: str
    because: str
    key: str

    def trigger(self, run: str | None) -> Trigger:
        """run: the Prefect flow run that retrains for it."""
        proof: Literal["claimed", "unknown"] = "claimed" if self.kind == "change" else "unknown"
        return Trigger(kind=self.kind, who=self.who, proof=proof, run=run, because=self.because)
