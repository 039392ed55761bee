"""The gate `query`: one number from Prometheus, against a bound or against the same query for stable."""

from __future__ import annotations

import re
from collections.abc import Callable

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import Asked, CheckResult
from coalmine.rollout_spec import QuerySpec
from coalmine.slots import Slot

AskPrometheus = Callable[[str], float]
"""Raises TelemetryUnavailable where there is no one number."""


class QueryCheck:
    """model: what `$model` in the query stands for; `$slot` is the candidate's, then stable's."""

    def __init__(self, spec: QuerySpec, model: str, ask: AskPrometheus) -> None:
        self._spec = spec
        self._model = model
        self._ask = ask

    def look(self, asked: Asked) -> CheckResult:
        try:
            candidate = self._value(asked.candidate)
            if self._spec.against is None:
                return within_bounds(self._spec, candidate)
            stable = self._value(asked.candidate.other)
        except TelemetryUnavailable as error:
            return CheckResult(Verdict.ERROR, f"{error}.")
        return against_stable(self._spec, candidate, stable)

    def _value(self, slot: Slot) -> float:
        return self._ask(filled(self._spec.query, self._model, slot))


def filled(query: str, model: str, slot: Slot) -> str:
    words = {"model": model, "slot": slot.value}
    return re.sub(r"\$(model|slot)\b", lambda word: words[word[1]], query)


def within_bounds(spec: QuerySpec, value: float) -> CheckResult:
    """On a bound is within it."""
    bounds = [
        *([] if spec.at_least is None else [(value >= spec.at_least, f"at least {spec.at_least:g}")]),
        *([] if spec.at_most is None else [(value <= spec.at_most, f"at most {spec.at_most:g}")]),
    ]
    meant = " and ".join(words for _, words in bounds)
    if all(holds for holds, _ in bounds):
        return CheckResult(Verdict.PASS, f"The query gives {value:g}, {meant}.", value)
    return CheckResult(Verdict.FAIL, f"The query gives {value:g}, which should be {meant}.", value)


def against_stable(spec: QuerySpec, candidate: float, stable: float) -> CheckResult:
    """At most `ratio` x stable's; with a ratio below 1, at least. To less than zero there is no ratio."""
    assert spec.ratio is not None
    values = f"The query gives {candidate:g} for the candidate, {stable:g} for stable"
    if stable < 0:
        return CheckResult(Verdict.ERROR, f"{values}: a ratio to a negative value means nothing.", candidate)
    bound = spec.ratio * stable
    side = "at most" if spec.ratio >= 1 else "at least"
    if (candidate <= bound) if spec.ratio >= 1 else (candidate >= bound):
        return CheckResult(Verdict.PASS, f"{values}: {side} {spec.ratio:g} times as much.", candidate)
    return CheckResult(
        Verdict.FAIL, f"{values}, which should be {side} {spec.ratio:g} times as much.", candidate
    )
