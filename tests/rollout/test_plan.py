"""Plans: which stages there are, who gets the candidate in each, what each asks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalmine.errors import Unsupported
from coalmine.rollout.evidence import Arm, Counters, Reading
from coalmine.rollout.gates import kinds
from coalmine.rollout.gates.errors import ErrorsGate
from coalmine.rollout.plan import BAKE, Plan, RolloutStage, StageKind
from coalmine.rollout.ports import Match, Routing, TrafficSplit, UserKey
from coalmine.rollout_spec import Rollout
from coalmine.slots import Slot

GREEN, BLUE = Slot.GREEN, Slot.BLUE
USERS = {"header": "x-group", "value": "beta"}
HOOK = {"gate": "webhook", "url": "https://hook.test"}
ALL = [
    {"gate": "errors"},
    {"gate": "latency"},
    {"gate": "predictions"},
    {"gate": "quality"},
    {"gate": "agreement"},
    {"gate": "query", "query": "up", "at_least": 1},
    HOOK,
    {"gate": "approval"},
]


def plan(**rollout: Any) -> Plan:
    return Plan.of(Rollout.model_validate(rollout))


@pytest.mark.parametrize(
    ("rollout", "stages"),
    [
        ({}, ["5 %", "25 %", "50 %"]),
        ({"shadow": {}, "stages": [50]}, ["shadow", "50 %"]),
        ({"strategy": "ab", "users": USERS, "shadow": {}}, ["shadow", "chosen users"]),
        ({"strategy": "blue-green"}, []),
        ({"strategy": "blue-green", "gates": [*ALL[:1], HOOK]}, ["preview"]),
        ({"strategy": "blue-green", "gates": [*ALL[:1], ALL[-1]], "shadow": {}}, ["shadow", "preview"]),
    ],
)
def test_the_stages_follow_from_the_strategy(rollout: dict[str, Any], stages: list[str]) -> None:
    assert [str(stage) for stage in plan(**rollout).stages] == stages


def test_each_kind_of_stage_has_its_split() -> None:
    canary = plan(shadow={"percent": 30}, sticky={"cookie": "uid"})
    chosen = plan(strategy="ab", users=USERS)
    stay = {GREEN: 0, BLUE: 100}
    assert canary.split(canary.stages[0], GREEN) == TrafficSplit(stay, mirror_percent=30)
    sticky = UserKey("cookie", "uid")
    assert canary.split(canary.stages[1], GREEN) == TrafficSplit({GREEN: 5, BLUE: 95}, sticky=sticky)
    match = Match(UserKey("header", "x-group"), "beta")
    assert chosen.split(chosen.stages[0], GREEN) == TrafficSplit(stay, match=match, match_to=GREEN)
    assert chosen.split(RolloutStage(StageKind.PREVIEW, 0), GREEN) == TrafficSplit.all_to(BLUE)
    assert canary.split(BAKE, GREEN) == TrafficSplit.all_to(GREEN)


def test_each_kind_of_stage_asks_the_gates_that_can_answer_in_it() -> None:
    whole = plan(gates=ALL, shadow={})
    checks = {"query", "webhook"}
    asked = {kind: whole.asked(RolloutStage(kind, 0)) for kind in StageKind}
    assert asked[StageKind.SHADOW] == {"errors", "latency", "predictions", "agreement"} | checks
    assert asked[StageKind.PREVIEW] == checks
    assert (
        asked[StageKind.WEIGHT]
        == asked[StageKind.USERS]
        == {
            "errors",
            "latency",
            "predictions",
            "quality",
        }
        | checks
    )
    assert asked[StageKind.BAKE] == {"errors", "quality"} | checks


@pytest.mark.parametrize(
    ("rollout", "lacking", "named"),
    [
        ({"shadow": {}}, Routing.MIRROR, "`shadow` (mirror)"),
        ({"strategy": "ab", "users": USERS}, Routing.MATCH, "`users` (match)"),
        ({"sticky": {"header": "x-user"}}, Routing.STICKY_HEADER, "`sticky` (sticky by header)"),
        ({"sticky": {"cookie": "uid"}}, Routing.STICKY_COOKIE, "`sticky` (sticky by cookie)"),
    ],
)
def test_what_the_router_cannot_do_is_refused_with_the_key(
    rollout: dict[str, Any], lacking: Routing, named: str
) -> None:
    plan(**rollout).require(frozenset(Routing))
    with pytest.raises(Unsupported, match="the router of this environment") as refused:
        plan(**rollout).require(frozenset(Routing) - {lacking})
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("before", "at"), [("start", 1), (25, 2), ("bake", 3)], ids=["first users", "a weight", "everybody"]
)
def test_an_approval_is_asked_before_its_stage_alone(before: object, at: int) -> None:
    asked = plan(shadow={}, stages=[5, 25], gates=[*ALL[:1], {"gate": "approval", "before": before}])
    assert [asked.approvals_before(index) for index in range(4)] == [
        ("approval",) if index == at else () for index in range(4)
    ]


def test_margins_grow_narrower_and_end_at_the_gates_own() -> None:
    whole = plan(gates=ALL[:4], stages=[5, 10, 25, 50])
    margins = [whole.margins(stage, 1000.0) for stage in range(4)]
    for name, own in (("errors", 0.0025), ("latency", 0.003), ("predictions", 0.02), ("quality", 0.01)):
        by_stage = [margin[name] for margin in margins]
        assert by_stage == sorted(by_stage, reverse=True)
        assert by_stage[-1] == own


def test_a_margin_that_is_wider_than_the_early_ones_holds_in_every_stage() -> None:
    wide = plan(gates=[{"gate": "latency", "margin": 0.5}, {"gate": "errors", "margin": 0.5}])
    assert {margin for stage in range(3) for margin in wide.margins(stage, 10.0).values()} == {0.5}


def test_who_allows_worse_may_promote_worse() -> None:
    before = Reading(0.0, "1", {arm: Counters(0, 0) for arm in Arm})
    (spec,) = plan(gates=[{"gate": "errors", "worst_ratio": 3.0}]).gates
    gate = kinds.fresh(spec, before, 30, 1.0)
    assert isinstance(gate, ErrorsGate)
    assert gate.comparison.promote.null.ratio == 3.0


KEYS = st.fixed_dictionaries(
    {},
    optional={
        "stages": st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True).map(sorted),
        "shadow": st.fixed_dictionaries({"percent": st.integers(1, 100)}),
        "bake_s": st.floats(1, 100),
        "sticky": st.sampled_from([{"header": "x-user"}, {"cookie": "uid"}]),
        "gates": st.lists(st.sampled_from(ALL), min_size=1, unique_by=str).map(
            lambda more: [*ALL[:1], *more[1:]]
        ),
    },
)


@given(KEYS, st.dictionaries(st.text("abc", min_size=1), st.floats(1, 9), max_size=3))
def test_what_is_saved_comes_back_equal(rollout: dict[str, Any], dispersion: dict[str, float]) -> None:
    try:
        saved = Plan.of(Rollout.model_validate(rollout), 3.0, dispersion)
    except ValueError:
        return  # no plan: refused when parsed
    assert Plan.from_json(json.loads(json.dumps(saved.to_json()))) == saved
