"""From what model.yaml says to a gate before its first poll, and from what was saved to the gate it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, assert_never

from coalmine.errors import IntegrityError
from coalmine.rollout.evidence import Arm, Reading
from coalmine.rollout.gates import Gate, errors, latency, predictions, quality
from coalmine.rollout.gates.agreement import AgreementGate
from coalmine.rollout.gates.checks import CheckGate
from coalmine.rollout_spec import (
    AgreementSpec,
    ApprovalSpec,
    ErrorsSpec,
    GateSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    QuerySpec,
    WebhookSpec,
    gate_name,
)
from coalmine.statistics import saved
from coalmine.statistics.eprocess import Null

_KINDS: Mapping[str, Any] = {
    "errors": errors.ErrorsGate,
    "latency": latency.LatencyGate,
    "predictions": predictions.PredictionsGate,
    "quality": quality.QualityGate,
    "agreement": AgreementGate,
    "check": CheckGate,
}


def fresh(spec: GateSpec, before: Reading, polls_per_start: int, dispersion: float) -> Gate | None:
    """The gate of `spec` before any poll; None for an approval, which waits for a word and shows nothing.

    before: stable's history in it sharpens the gate's bets, never their validity.
    polls_per_start: the polls in a minute.
    dispersion: how many requests are worth one independent one.
    """
    name = gate_name(spec)
    counted, answered = before.arms[Arm.STABLE], before.answers.get(Arm.STABLE)
    match spec:
        case ErrorsSpec():
            ratio = max(errors.PROMOTE_RATIO, spec.worst_ratio)
            return errors.ErrorsGate.start(_null(spec), ratio, counted, polls_per_start, dispersion, name)
        case LatencySpec():
            ratio = max(latency.PROMOTE_RATIO, spec.worst_ratio)
            fast_s = spec.fast_ms / 1000
            return latency.LatencyGate.start(
                _null(spec), ratio, counted, polls_per_start, fast_s, dispersion, name
            )
        case PredictionsSpec():
            ratio = max(predictions.PROMOTE_RATIO, spec.worst_ratio)
            return predictions.PredictionsGate.start(
                _null(spec), ratio, answered, polls_per_start, dispersion, name
            )
        case QualitySpec():
            ratio = max(quality.PROMOTE_RATIO, spec.worst_ratio)
            return quality.QualityGate.start(_null(spec), ratio, answered, polls_per_start, dispersion, name)
        case AgreementSpec():
            return AgreementGate.start(spec.at_most, name)
        case QuerySpec() | WebhookSpec():
            return CheckGate(name, spec.breaches)
        case ApprovalSpec():
            return None
        case other:
            assert_never(other)


def to_json(gate: Gate) -> dict[str, object]:
    """Law: `from_json(to_json(g)) == g`."""
    kind = next(kind for kind, type_ in _KINDS.items() if type(gate) is type_)
    return {"kind": kind, **saved.to_json(gate)}


def from_json(content: Mapping[str, object]) -> Gate:
    """
    Raises:
        IntegrityError: no gate that this coalmine saved.
    """
    kind = _KINDS.get(str(content.get("kind")))
    if kind is None:
        raise IntegrityError(
            f"a saved rollout holds a gate of the unknown kind {content.get('kind')!r}: run the version of "
            "coalmine that saved it, or abort the rollout and start it anew"
        )
    gate: Gate = saved.from_json(kind, {key: value for key, value in content.items() if key != "kind"})
    return gate


class _Worst(Protocol):
    @property
    def worst_ratio(self) -> float: ...
    @property
    def worst_difference(self) -> float: ...


def _null(spec: _Worst) -> Null:
    return Null(spec.worst_ratio, spec.worst_difference)
