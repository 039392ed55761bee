"""`rollout` in model.yaml: how a release reaches the users, and what it must show on the way.

Refused when parsed, with key and remedy: bounds that contradict each other, and every plan that can
never promote, as far as arithmetic shows it. What the gates make of their settings stands in
coalmine/rollout/; docs/gates.md explains each key.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from coalmine.strict import Spec

TAG = "gate"  # the key that says which gate is meant
SLOT_HEADER = "x-coalmine-slot"  # a tester's request names its slot in it
POLLS_TO_JUDGE = 2  # the first reading of a stage is where the second is counted from

_TOKEN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"  # names of headers and cookies (RFC 9110, RFC 6265)
_QUERY_WORDS = ("slot", "model")


# --- who gets the candidate ------------------------------------------------------------


class Shadow(Spec):
    """A first stage: so many of the requests are copied to the candidate, and nobody sees its answers."""

    percent: int = Field(100, ge=1, le=100)


class UserKeySpec(Spec):
    """Where a request says who its user is."""

    header: str | None = Field(None, pattern=_TOKEN)
    cookie: str | None = Field(None, pattern=_TOKEN)

    @model_validator(mode="after")
    def _exactly_one(self) -> UserKeySpec:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("give exactly one of `header` and `cookie`")
        if self.header is not None and self.header.lower() == SLOT_HEADER:
            raise ValueError(f"`header` cannot be {SLOT_HEADER}: testers choose their slot with it")
        return self


class Sticky(UserKeySpec):
    """The candidate's share is drawn by user: who once got it keeps it as the share grows."""


class Users(UserKeySpec):
    """Requests that carry `value` there get the candidate."""

    value: str = Field(min_length=1, pattern=r"^[\x21-\x7e]+$")


# --- gates -----------------------------------------------------------------------------

GateName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]


class _Gate(Spec):
    """dry_run: it is measured and told, and never holds nor rolls back."""

    name: GateName | None = None
    dry_run: bool = False


class _Compared(_Gate):
    """Candidate against stable. `margin`: what the last stage must rule out; roll back beyond
    `worst_ratio` x stable + `worst_difference`."""

    margin: float = Field(gt=0, lt=1)
    worst_ratio: float = Field(ge=1)
    worst_difference: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _some_candidate_can_pass(self) -> _Compared:
        if self.margin < self.worst_difference:
            raise ValueError(
                f"`margin` {self.margin:g} lies inside of what is not rolled back (`worst_difference` "
                f"{self.worst_difference:g}): what is worse by something between the two would neither pass "
                "nor fail. Make `margin` the larger"
            )
        return self


class ErrorsSpec(_Compared):
    """Requests without an answer."""

    gate: Literal["errors"] = "errors"
    margin: float = Field(0.0025, gt=0, lt=1)
    worst_ratio: float = Field(1.05, ge=1)
    worst_difference: float = Field(0.0002, ge=0, lt=1)


class LatencySpec(_Compared):
    """Requests slower than bounds. `fast_ms`: an answer within it counts as fast, however fast stable is.

    A tenth of what people feel as at once (0.1 s: Miller 1968, Nielsen 1993); a quick model takes less.
    """

    gate: Literal["latency"] = "latency"
    margin: float = Field(0.003, gt=0, lt=1)
    worst_ratio: float = Field(1.1, ge=1)
    worst_difference: float = Field(0.0005, ge=0, lt=1)
    fast_ms: float = Field(10.0, ge=0)


class PredictionsSpec(_Compared):
    """What the model answers: the share of rows scored beyond bounds, in both tails.

    output: the model's output that is meant; the one that its servers count, `probability`, or
        `prediction` of a regression.
    """

    gate: Literal["predictions"] = "predictions"
    margin: float = Field(0.02, gt=0, lt=1)
    worst_ratio: float = Field(1.1, ge=1)
    worst_difference: float = Field(0.002, ge=0, lt=1)
    output: str | None = None


class QualitySpec(_Compared):
    """What answers lost once their true labels came: a loss in [0, 1] by labelled request."""

    gate: Literal["quality"] = "quality"
    margin: float = Field(0.01, gt=0, lt=1)
    worst_ratio: float = Field(1.0, ge=1)
    worst_difference: float = Field(0.0, ge=0, lt=1)


class AgreementSpec(_Gate):
    """In the shadow stage, both arms answer the same request: at most this share of the pairs differs.

    tolerance: two answers whose scores differ by more are different.
    """

    gate: Literal["agreement"] = "agreement"
    at_most: float = Field(0.02, gt=0, lt=1)
    tolerance: float = Field(0.05, gt=0)


class QuerySpec(_Gate):
    """A PromQL query whose one value must lie within bounds, or near the same query's for stable.

    query: `$slot` and `$model` in it are filled in.
    against, ratio: the candidate's value is at most `ratio` x stable's; with a ratio below 1, at least.
    breaches: so many looks in a row must fail before it rolls back.
    """

    gate: Literal["query"] = "query"
    query: str = Field(min_length=1)
    at_least: float | None = None
    at_most: float | None = None
    against: Literal["stable"] | None = None
    ratio: float | None = Field(None, gt=0)
    breaches: int = Field(3, ge=1)

    @field_validator("query")
    @classmethod
    def _answers_with_a_number(cls, query: str) -> str:
        if query.strip()[:1] in "\"'`":
            raise ValueError("returns text, which no bound can be held against: give a query for a number")
        unknown = [word for word in re.findall(r"\$(\w+)", query) if word not in _QUERY_WORDS]
        if unknown:
            known = " and ".join(f"${word}" for word in _QUERY_WORDS)
            raise ValueError(f"names ${unknown[0]}, which nobody fills in: known are {known}")
        return query

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> QuerySpec:
        bounded = self.at_least is not None or self.at_most is not None
        if self.against is None:
            if self.ratio is not None:
                raise ValueError("`ratio` compares with stable: add `against: stable`")
            if not bounded:
                raise ValueError("give a bound: `at_most`, `at_least`, or `against: stable` with a `ratio`")
        elif bounded or self.ratio is None:
            raise ValueError("`against: stable` takes a `ratio`, and no `at_most` or `at_least`")
        elif "$slot" not in self.query:
            raise ValueError("`against: stable` needs $slot in the query, to ask it of both slots")
        if self.at_least is not None and self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(
                f"`at_most` {self.at_most:g} lies below `at_least` {self.at_least:g}: no value is both"
            )
        return self


class WebhookSpec(_Gate):
    """An address that is asked at every look; it says pass, fail or wait.

    breaches: so many looks in a row must fail before it rolls back.
    """

    gate: Literal["webhook"] = "webhook"
    url: str = Field(pattern=r"^https?://\S+$")
    timeout_s: float = Field(5.0, gt=0)
    breaches: int = Field(3, ge=1)


class ApprovalSpec(_Gate):
    """A person's word. before: `start`, any user gets the candidate; `bake`, everybody does; or the
    weight of the stage that must not begin without it."""

    gate: Literal["approval"] = "approval"
    before: Literal["start", "bake"] | int = "bake"

    @field_validator("before", mode="before")
    @classmethod
    def _is_a_moment(cls, before: object) -> object:
        if before not in ("start", "bake") and (not isinstance(before, int) or isinstance(before, bool)):
            raise ValueError("give start, bake, or the weight of a stage, such as 50")
        return before


GateSpec = Annotated[
    ErrorsSpec
    | LatencySpec
    | PredictionsSpec
    | QualitySpec
    | AgreementSpec
    | QuerySpec
    | WebhookSpec
    | ApprovalSpec,
    Field(discriminator=TAG),
]


def gate_name(gate: GateSpec) -> str:
    return gate.name or gate.gate


# --- who is told -----------------------------------------------------------------------

Notice = Literal["started", "held", "advanced", "promoted", "rolled-back", "needs-you"]


class WebhookAddress(Spec):
    """webhook: a URL, or $NAME, the variable in the environment of who tells that holds it: most such
    URLs are secrets, and stay out of Git."""

    webhook: str
    format: Literal["slack", "teams", "alertmanager", "json"] = "json"

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, webhook: str) -> str:
        if not re.fullmatch(r"https?://\S+|\$[A-Z_][A-Z0-9_]*", webhook):
            raise ValueError("give a URL, or $NAME for one from the environment")
        return webhook


class NotifySpec(WebhookAddress):
    on: tuple[Notice, ...] = get_args(Notice)


# --- the rollout -----------------------------------------------------------------------


class Rollout(Spec):
    """How a release reaches the users. Weights in percent of the requests, seconds elsewhere."""

    strategy: Literal["canary", "ab", "blue-green"] = "canary"
    shadow: Shadow | None = None
    stages: tuple[int, ...] = (5, 25, 50)  # canary alone
    users: Users | None = None  # ab alone: who gets the candidate
    sticky: Sticky | None = None  # canary alone
    bake_s: float = Field(30.0, gt=0)
    poll_s: float = Field(2.0, ge=0.1)
    hold_budget_s: float = Field(3600.0, gt=0)  # the longest a stage may stay undecided
    no_data_budget_s: float = Field(600.0, gt=0)  # the longest without a usable measurement
    progress_deadline_s: float = Field(120.0, gt=0)  # the longest a candidate may take to be ready
    notify: tuple[NotifySpec, ...] = ()
    gates: tuple[GateSpec, ...] = (ErrorsSpec(), LatencySpec())

    @field_validator("stages")
    @classmethod
    def _weights_grow(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if not stages or list(stages) != sorted(set(stages)):
            raise ValueError("must be weights that grow, such as [5, 25, 50]")
        if not (stages[0] >= 1 and stages[-1] < 100):
            raise ValueError("must lie between 1 and 99: the bake at 100 follows by itself")
        return stages

    @field_validator("gates")
    @classmethod
    def _gates_are_told_apart(cls, gates: tuple[GateSpec, ...]) -> tuple[GateSpec, ...]:
        names = [gate_name(gate) for gate in gates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two gates are called `{twice[0]}`: give one of them a `name` of its own")
        if sum(isinstance(gate, AgreementSpec) for gate in gates) > 1:
            raise ValueError("two gates `agreement`: answers are compared once, by one `tolerance`. Keep one")
        if all(gate.dry_run for gate in gates):
            raise ValueError("must hold at least one gate that is no `dry_run`: nothing else can promote")
        return gates

    @model_validator(mode="after")
    def _keys_belong_to_the_strategy(self) -> Rollout:
        for key, strategy in (("stages", "canary"), ("sticky", "canary"), ("users", "ab")):
            if key in self.model_fields_set and getattr(self, key) is not None and self.strategy != strategy:
                raise ValueError(
                    f"`{key}` is for the strategy {strategy}, and this one is {self.strategy}: take it out"
                )
        if self.strategy == "ab" and self.users is None:
            raise ValueError(
                "`users` is missing: the strategy ab gives the candidate to those who carry a header or a "
                "cookie, such as users: {header: x-group, value: beta}"
            )
        return self

    @model_validator(mode="after")
    def _every_gate_can_pass(self) -> Rollout:
        for gate in self.gates:
            if isinstance(gate, AgreementSpec) and self.shadow is None:
                raise ValueError(
                    f"the gate `{gate_name(gate)}` compares answers to the same request, and can never pass "
                    "without a shadow stage: add shadow: {percent: 100}"
                )
            if isinstance(gate, ApprovalSpec) and isinstance(gate.before, int):
                stages = self.stages if self.strategy == "canary" else ()
                if gate.before not in stages:
                    there = ", ".join(["start", *map(str, stages), "bake"])
                    raise ValueError(
                        f"the gate `{gate_name(gate)}` waits `before: {gate.before}`, and there is no such "
                        f"stage: give one of {there}"
                    )
        return self

    @model_validator(mode="after")
    def _every_stage_asks_something(self) -> Rollout:
        """A stage that asks nothing would pass unseen."""
        counted: tuple[type, ...] = (ErrorsSpec, LatencySpec, PredictionsSpec, QuerySpec, WebhookSpec)
        asked = {
            "bake": (ErrorsSpec, QualitySpec, QuerySpec, WebhookSpec),
            "stages": (*counted, QualitySpec),
            "shadow stage": (*counted, AgreementSpec),
        }
        there = ["bake" if self.strategy == "blue-green" else "stages"]
        there += [] if self.shadow is None else ["shadow stage"]
        for stage in there:
            if not any(isinstance(gate, asked[stage]) and not gate.dry_run for gate in self.gates):
                raise ValueError(
                    f"the rollout asks nothing in its {stage}, and would go on unseen: add {{gate: errors}}"
                )
        return self

    @model_validator(mode="after")
    def _time_is_enough(self) -> Rollout:
        needed_s = POLLS_TO_JUDGE * self.poll_s
        for budget in ("hold_budget_s", "no_data_budget_s"):
            if getattr(self, budget) < needed_s:
                raise ValueError(
                    f"`{budget}` {getattr(self, budget):g} ends before anything is measured: a stage needs "
                    f"{POLLS_TO_JUDGE} polls of `poll_s` {self.poll_s:g}, so give {needed_s:g} or more"
                )
        if self.bake_s >= self.hold_budget_s:
            raise ValueError(
                f"`bake_s` {self.bake_s:g} is not over when `hold_budget_s` {self.hold_budget_s:g} ends, so "
                "that no release could be promoted: give the budget more"
            )
        return self
