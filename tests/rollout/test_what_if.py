"""What another plan would have made of a recorded rollout: exact, or silent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coalmine.rollout.events import EventKind
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import TrafficSplit
from coalmine.rollout.runner import run
from coalmine.rollout.ticks import Tick, tick_from_json
from coalmine.rollout.what_if import Ending, what_if
from coalmine.rollout_spec import ApprovalSpec, ErrorsSpec, LatencySpec, QuerySpec, Rollout
from coalmine.slots import Slot
from tests.simulators.world import ArmBehaviour, World, upgrade_slots

GATES = (ErrorsSpec(margin=0.02), LatencySpec(margin=0.05))


def plan(**changes: Any) -> Plan:
    return Plan.of(Rollout(**{"stages": (5, 25, 50), "bake_s": 10, "gates": GATES, **changes}))


RECORDED = plan()


def ticks(*, failing: float = 0.0, recorded: Plan = RECORDED) -> list[Tick]:
    world = World(requests_per_s=100, seed=3)
    world.behaviour[Slot.GREEN] = ArmBehaviour(failing=failing)
    world.router.split = TrafficSplit.all_to(Slot.BLUE)
    world.pass_time(30)
    run(recorded, upgrade_slots(), world.ports())
    return [tick_from_json(json.loads(json.dumps(line)), "ticks") for line in world.journal.ticks]


def test_the_recorded_plan_itself_gives_the_recorded_rollout() -> None:
    again = what_if(RECORDED, RECORDED, ticks())
    assert again.ending is Ending.DECIDED
    assert again.sentence == "promoted: every gate passed, and the bake"
    assert [event.kind for event in again.events][-1] is EventKind.PROMOTING


def test_a_laxer_gate_keeps_users_where_the_record_took_them_away_and_then_nothing_is_known() -> None:
    laxer = plan(gates=(ErrorsSpec(margin=0.5, worst_difference=0.4), LatencySpec(margin=0.05)))
    other = what_if(RECORDED, laxer, ticks(failing=0.1))
    assert other.ending is Ending.UNKNOWN
    assert EventKind.ROLLING_BACK not in [event.kind for event in other.events]
    assert other.sentence in (
        "the recorded rollout was over, and this plan would have gone on",
        "this plan would be in the stage “25 %”, and the recorded rollout was in the stage “5 %”",
    )


def test_a_stricter_gate_that_rolls_back_while_the_users_are_where_they_were_is_exact() -> None:
    blind = plan(gates=(ErrorsSpec(margin=0.5, worst_difference=0.4), LatencySpec(margin=0.05)))
    kept = ticks(failing=0.1, recorded=blind)
    other = what_if(blind, RECORDED, kept)
    assert other.ending is Ending.DECIDED
    assert other.sentence.startswith("rolled back: ")
    assert other.at_s < kept[-1].at_s


def test_other_weights_end_what_the_record_can_say_at_the_first_of_them() -> None:
    kept = ticks()
    other = what_if(RECORDED, plan(stages=(10, 50)), kept)
    assert other.ending is Ending.UNKNOWN
    assert (
        "this plan would be in the stage “10 %”, and the recorded rollout was in the stage “5 %”"
        in other.sentence
    )
    assert [event.kind for event in other.events][-1] is EventKind.STAGE_STARTED
    assert len(other.events) == 3


def test_a_longer_bake_is_known_until_the_recorded_one_ended() -> None:
    kept = ticks()
    other = what_if(RECORDED, plan(bake_s=60), kept)
    assert other.ending is Ending.UNKNOWN
    assert other.sentence == "the recorded rollout was over, and this plan would have gone on"


@pytest.mark.parametrize(
    ("gate", "because"),
    [
        (ApprovalSpec(before="bake"), "this plan would wait for an approval, and nobody was asked"),
        (QuerySpec(query="up", at_least=1), "the record does not hold what the gate `query` asks for"),
    ],
    ids=["an approval", "a query"],
)
def test_what_nobody_asked_is_not_guessed(gate: Any, because: str) -> None:
    other = what_if(RECORDED, plan(gates=(*GATES, gate)), ticks())
    assert (other.ending, other.sentence) == (Ending.UNKNOWN, because)


def test_a_record_that_stops_leaves_the_question_open() -> None:
    kept = ticks()[:8]
    other = what_if(RECORDED, RECORDED, kept)
    assert other.ending is Ending.OPEN
    assert other.at_s == kept[-1].at_s
