"""What a rollout will do, fixed before it starts: weights, margins, budgets.

A stage's margin is the smallest regression that the stage must rule out before more users
follow. Early stages need little proof because little is at risk: the margin of `errors` allows
about `HARM_PER_S` excess failures per second at the next weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coalmine.rollout.evidence import Counters
from coalmine.rollout.gates import Gate, errors, latency
from coalmine.spec import GateSpec, Rollout
from coalmine.statistics.eprocess import Null

HARM_PER_S = 0.25  # excess failed requests per second that a stage may leave undetected
WIDEST_MARGIN = 0.2

ERRORS_MARGIN = 0.0025
# A tenth of what people feel as at once (0.1 s: Miller 1968, Nielsen 1993); a quick model takes less.
FAST_MS = 10.0
LATENCY_MARGINS = (0.05, 0.02, 0.003)  # the last three stages; earlier ones take the first


@dataclass(frozen=True)
class Plan:
    """Weights in percent, seconds elsewhere; see `coalmine.spec.Rollout`."""

    stages: tuple[int, ...]
    bake_s: float
    poll_s: float
    hold_budget_s: float
    no_data_budget_s: float
    progress_deadline_s: float
    gates: tuple[GateSpec, ...]

    @classmethod
    def of(cls, spec: Rollout) -> Plan:
        return cls(
            stages=spec.stages,
            bake_s=spec.bake_s,
            poll_s=spec.poll_s,
            hold_budget_s=spec.hold_budget_s,
            no_data_budget_s=spec.no_data_budget_s,
            progress_deadline_s=spec.progress_deadline_s,
            gates=spec.gates,
        )

    def is_last(self, stage: int) -> bool:
        return stage == len(self.stages) - 1

    def margins(self, stage: int, requests_per_s: float) -> Mapping[str, float]:
        """Each gate's promote margin in `stage`, by gate name; `requests_per_s` over both arms."""
        return {gate.gate: self._margin(gate, stage, requests_per_s) for gate in self.gates}

    def _margin(self, gate: GateSpec, stage: int, requests_per_s: float) -> float:
        match gate.gate:
            case "errors":
                final = gate.margin or ERRORS_MARGIN
                next_weight = 1.0 if self.is_last(stage) else self.stages[stage + 1] / 100
                if requests_per_s <= 0:
                    return final
                return min(max(HARM_PER_S / (requests_per_s * next_weight), final), WIDEST_MARGIN)
            case "latency":
                before_the_end = len(self.stages) - 1 - stage
                usual = LATENCY_MARGINS[max(0, len(LATENCY_MARGINS) - 1 - before_the_end)]
                final = gate.margin or LATENCY_MARGINS[-1]
                return final if before_the_end == 0 else max(usual, final)

    def fresh_gates(self, history: Counters) -> tuple[Gate, ...]:
        """The gates before any poll; stable's `history` sharpens their bets, never their validity."""
        polls_a_minute = max(1, round(60 / self.poll_s))
        return tuple(_gate(spec, history, polls_a_minute) for spec in self.gates)


def _gate(spec: GateSpec, history: Counters, polls_a_minute: int) -> Gate:
    match spec.gate:
        case "errors":
            null = _widened(errors.ROLL_BACK, spec)
            return errors.ErrorsGate.start(null, history=history, polls_per_start=polls_a_minute)
        case "latency":
            null = _widened(latency.ROLL_BACK, spec)
            fast_ms = FAST_MS if spec.fast_ms is None else spec.fast_ms
            return latency.LatencyGate.start(
                null, history=history, polls_per_start=polls_a_minute, fast_s=fast_ms / 1000
            )


def _widened(null: Null, spec: GateSpec) -> Null:
    """`null` with what the model's owner allows instead."""
    ratio = null.ratio if spec.worst_ratio is None else spec.worst_ratio
    delta = null.delta if spec.worst_difference is None else spec.worst_difference
    return Null(ratio, delta)


def gate_from_json(content: dict[str, object]) -> Gate:
    match content["name"]:
        case "errors":
            return errors.ErrorsGate.from_json(content)
        case "latency":
            return latency.LatencyGate.from_json(content)
        case other:
            raise ValueError(f"unknown gate in a saved rollout: {other}")
