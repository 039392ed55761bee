"""What a rollout will do, fixed before it starts: stages, who gets the candidate in each, margins.

A stage's margin is the smallest regression that the stage must rule out before more users
follow. Early stages need little proof because little is at risk: the margin of `errors` allows
about `HARM_PER_S` excess failures per second at the next weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, assert_never

from coalmine.errors import Unsupported
from coalmine.rollout.ports import Match, Routing, TrafficSplit, UserKey
from coalmine.rollout_spec import (
    AgreementSpec,
    ApprovalSpec,
    ErrorsSpec,
    GateSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    QuerySpec,
    Rollout,
    UserKeySpec,
    WebhookSpec,
    gate_name,
)
from coalmine.slots import Slot

HARM_PER_S = 0.25  # excess failed requests per second that a stage may leave undetected
WIDEST_MARGIN = 0.2

# Copies cost nobody a failure, so they must show more, as if everybody came next and half the harm were too
# much. What they have ruled out, the stages after them but the last need not prove again as closely.
# Chosen by benchmarks/gates: a doubling of failures stays in the shadow stage at 50 requests per second.
SHADOW_STRICTER = 2.0
AFTER_SHADOW_WIDER = 4.0

# Of the last three stages; earlier ones take the first. The last stage's is the gate's own margin.
EARLIER_LATENCY_MARGINS = (0.05, 0.02)
EARLIER_PREDICTIONS_MARGINS = (0.08, 0.04)


class StageKind(StrEnum):
    SHADOW = "shadow"  # requests are copied to the candidate, nobody sees what it answers
    PREVIEW = "preview"  # the candidate is there for testers alone
    WEIGHT = "weight"  # a share of the requests, or of the users where they are sticky
    USERS = "users"  # those users who carry the plan's header or cookie
    BAKE = "bake"  # everybody; stable stays ready to take them back


@dataclass(frozen=True)
class RolloutStage:
    """weight_percent: the candidate's share of those requests that no header or cookie decides."""

    kind: StageKind
    weight_percent: int

    def __str__(self) -> str:
        match self.kind:
            case StageKind.SHADOW:
                return "shadow"
            case StageKind.PREVIEW:
                return "preview"
            case StageKind.WEIGHT:
                return f"{self.weight_percent} %"
            case StageKind.USERS:
                return "chosen users"
            case StageKind.BAKE:
                return "bake"
            case other:
                assert_never(other)


BAKE = RolloutStage(StageKind.BAKE, 100)

_SEEN = (StageKind.WEIGHT, StageKind.USERS, StageKind.BAKE)  # by users

_STRATEGY_OF = {"stages": "canary", "sticky": "canary", "users": "ab"}  # keys that others refuse
_CHECKS = (QuerySpec, WebhookSpec)
_ASKED: Mapping[StageKind, tuple[type, ...]] = {
    StageKind.SHADOW: (ErrorsSpec, LatencySpec, PredictionsSpec, AgreementSpec, *_CHECKS),
    StageKind.PREVIEW: _CHECKS,
    StageKind.WEIGHT: (ErrorsSpec, LatencySpec, PredictionsSpec, QualitySpec, *_CHECKS),
    StageKind.USERS: (ErrorsSpec, LatencySpec, PredictionsSpec, QualitySpec, *_CHECKS),
    # Latency and scores are another load's and another hour's there than those they were compared with.
    StageKind.BAKE: (ErrorsSpec, QualitySpec, *_CHECKS),
}


@dataclass(frozen=True)
class Plan:
    """
    timeout_s: after which an unanswered request has failed (`serving.timeout_s` of the model).
    dispersion: by gate, how many requests are worth one independent one, from stable's earlier
        rollouts; a gate that is not there has no history.
    """

    rollout: Rollout
    timeout_s: float = 2.0
    dispersion: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, rollout: Rollout, timeout_s: float = 2.0, dispersion: Mapping[str, float] | None = None
    ) -> Plan:
        return cls(rollout, timeout_s, dispersion or {})

    @cached_property
    def stages(self) -> tuple[RolloutStage, ...]:
        """Those before the bake; none where nothing is asked before it."""
        shadow = () if self.rollout.shadow is None else (RolloutStage(StageKind.SHADOW, 0),)
        match self.rollout.strategy:
            case "canary":
                return (*shadow, *(RolloutStage(StageKind.WEIGHT, w) for w in self.rollout.stages))
            case "ab":
                return (*shadow, RolloutStage(StageKind.USERS, 0))
            case "blue-green":
                preview = RolloutStage(StageKind.PREVIEW, 0)
                waits = any(isinstance(gate, ApprovalSpec) for gate in self.gates)
                return (*shadow, preview) if waits or self.asked(preview) else shadow
            case other:
                assert_never(other)

    @property
    def gates(self) -> tuple[GateSpec, ...]:
        return self.rollout.gates

    @property
    def poll_s(self) -> float:
        return self.rollout.poll_s

    def is_last(self, stage: int) -> bool:
        """Whether everybody is the next to get the candidate: what is asked for then is the most."""
        return all(later.kind is StageKind.PREVIEW for later in self.stages[stage + 1 :])

    def stage_at(self, index: int) -> RolloutStage:
        """The stage at `index`; after the last, the bake."""
        return self.stages[index] if index < len(self.stages) else BAKE

    def asked(self, stage: RolloutStage) -> frozenset[str]:
        """The names of the gates that are asked in `stage`, approvals not among them."""
        return frozenset(gate_name(gate) for gate in self.gates if isinstance(gate, _ASKED[stage.kind]))

    def approvals_before(self, index: int) -> tuple[str, ...]:
        """The names of the approvals without which the stage at `index` (after the last: the bake) must
        not begin."""
        stage = self.stage_at(index)
        wanted: set[object] = set()
        if stage.kind is StageKind.BAKE:
            wanted.add("bake")
        if stage.kind is StageKind.WEIGHT:
            wanted.add(stage.weight_percent)
        if stage.kind in _SEEN and not any(each.kind in _SEEN for each in self.stages[:index]):
            wanted.add("start")
        asked = (gate for gate in self.gates if isinstance(gate, ApprovalSpec) and not gate.dry_run)
        return tuple(gate_name(gate) for gate in asked if gate.before in wanted)

    def all_approvals(self) -> tuple[str, ...]:
        """The names of the approvals that some stage waits for."""
        return tuple(name for index in range(len(self.stages) + 1) for name in self.approvals_before(index))

    # --- where requests go -------------------------------------------------------------

    def split(self, stage: RolloutStage, candidate: Slot) -> TrafficSplit:
        rollout, stable = self.rollout, candidate.other
        match stage.kind:
            case StageKind.SHADOW:
                percent = 0 if rollout.shadow is None else rollout.shadow.percent
                return TrafficSplit({stable: 100, candidate: 0}, mirror_percent=percent)
            case StageKind.PREVIEW:
                return TrafficSplit.all_to(stable)
            case StageKind.WEIGHT:
                sticky = None if rollout.sticky is None else _key(rollout.sticky)
                weights = {candidate: stage.weight_percent, stable: 100 - stage.weight_percent}
                return TrafficSplit(weights, sticky=sticky)
            case StageKind.USERS:
                assert rollout.users is not None
                match = Match(_key(rollout.users), rollout.users.value)
                return TrafficSplit({stable: 100, candidate: 0}, match=match, match_to=candidate)
            case StageKind.BAKE:
                return TrafficSplit.all_to(candidate)
            case other:
                assert_never(other)

    def needs(self) -> frozenset[Routing]:
        """What the router must be able to do besides weights."""
        needs = set()
        if self.rollout.shadow is not None:
            needs.add(Routing.MIRROR)
        if self.rollout.users is not None:
            needs.add(Routing.MATCH)
        if self.rollout.sticky is not None:
            by_cookie = self.rollout.sticky.cookie is not None
            needs.add(Routing.STICKY_COOKIE if by_cookie else Routing.STICKY_HEADER)
        return frozenset(needs)

    def require(self, supported: frozenset[Routing]) -> None:
        """
        Raises:
            Unsupported: the environment's router cannot do what the plan needs.
        """
        lacking = sorted(self.needs() - supported)
        if lacking:
            keys = {Routing.MIRROR: "shadow", Routing.MATCH: "users"}
            named = ", ".join(f"`{keys.get(each, 'sticky')}` ({each})" for each in lacking)
            raise Unsupported(
                "the router of this environment cannot do what `rollout` in model.yaml asks for: "
                f"{named}. Take it out, or deliver to an environment whose router can."
            )

    # --- margins -----------------------------------------------------------------------

    def margins(self, stage: int, requests_per_s: float) -> Mapping[str, float]:
        """The promote margins of the gates asked in `stage`, by name; `requests_per_s` over both arms."""
        asked = self.asked(self.stages[stage])
        margins = {
            gate_name(gate): self._margin(gate, stage, requests_per_s)
            for gate in self.gates
            if gate_name(gate) in asked
        }
        return {name: margin for name, margin in margins.items() if margin is not None}

    def _margin(self, gate: GateSpec, stage: int, requests_per_s: float) -> float | None:
        match gate:
            case ErrorsSpec():
                if requests_per_s <= 0:
                    return gate.margin
                return max(gate.margin, min(self._allowed_per_s(stage) / requests_per_s, WIDEST_MARGIN))
            case LatencySpec():
                return max(gate.margin, self._earlier(stage, EARLIER_LATENCY_MARGINS))
            case PredictionsSpec():
                return max(gate.margin, self._earlier(stage, EARLIER_PREDICTIONS_MARGINS))
            case QualitySpec():
                return gate.margin
            case AgreementSpec() | QuerySpec() | WebhookSpec() | ApprovalSpec():
                return None
            case other:
                assert_never(other)

    def _allowed_per_s(self, stage: int) -> float:
        """Excess failures, by request of the load, that `stage` may leave undetected, per second."""
        if self.stages[stage].kind is StageKind.SHADOW:
            return HARM_PER_S / SHADOW_STRICTER
        after_shadow = self.stages[0].kind is StageKind.SHADOW and not self.is_last(stage)
        harm_per_s = HARM_PER_S * AFTER_SHADOW_WIDER if after_shadow else HARM_PER_S
        return harm_per_s / self._next_share(stage)

    def _next_share(self, stage: int) -> float:
        """The share of the requests that is at stake after `stage`; all, where nobody knows it."""
        following = self.stage_at(stage + 1)
        return following.weight_percent / 100 if following.kind is StageKind.WEIGHT else 1.0

    def _earlier(self, stage: int, margins: tuple[float, ...]) -> float:
        """What is enough in `stage` because other stages follow; 0 where everybody does."""
        follow = sum(later.kind is not StageKind.PREVIEW for later in self.stages[stage + 1 :])
        return margins[max(0, len(margins) - follow)] if follow else 0.0

    # --- as saved ----------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Law: `Plan.from_json(p.to_json()) == p`."""
        return {
            "rollout": self._rollout_to_json(),
            "timeout_s": self.timeout_s,
            "dispersion": dict(self.dispersion),
        }

    def _rollout_to_json(self) -> dict[str, Any]:
        """Defaults too: those of a later coalmine may be others. Without the keys of other strategies."""
        strategy = self.rollout.strategy
        content = self.rollout.model_dump(mode="json")
        return {key: value for key, value in content.items() if _STRATEGY_OF.get(key, strategy) == strategy}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """
        Raises:
            pydantic.ValidationError: no plan that this coalmine could have made.
        """
        return cls(Rollout.model_validate(content["rollout"]), content["timeout_s"], content["dispersion"])


def _key(spec: UserKeySpec) -> UserKey:
    if spec.header is not None:
        return UserKey("header", spec.header)
    assert spec.cookie is not None
    return UserKey("cookie", spec.cookie)
