"""What is foreseen is what the real engine does with the same traffic, and moves as it must."""

from __future__ import annotations

import statistics

import pytest

from coalmine.rollout.foresight import Foreseen, Runs, Users, foresee
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import TrafficSplit
from coalmine.rollout.runner import run
from coalmine.rollout_spec import (
    ApprovalSpec,
    ErrorsSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    Rollout,
    Shadow,
)
from coalmine.rollout_spec import Users as ChosenUsers
from coalmine.slots import Slot
from tests.simulators.world import ArmBehaviour, World, upgrade_slots

FEW = Runs(good=40, bad=20)
ERRORS = (ErrorsSpec(margin=0.01),)
USERS = Users(requests_per_s=40.0, error_rate=0.005)


def foreseen(users: Users = USERS, **changes: object) -> Foreseen:
    spec = Rollout(**{"gates": ERRORS, "poll_s": 5.0, **changes})
    return foresee(Plan.of(spec), users, 1, FEW)


def really(excess: float, seeds: range) -> list[tuple[bool, float, float]]:
    """Of the real engine on simulated traffic: whether promoted, in how many seconds, failures caused."""
    outcomes = []
    for seed in seeds:
        world = World(requests_per_s=USERS.requests_per_s, seed=seed)
        world.behaviour[Slot.BLUE] = ArmBehaviour(failing=USERS.error_rate)
        world.behaviour[Slot.GREEN] = ArmBehaviour(failing=USERS.error_rate + excess)
        world.router.split = TrafficSplit.all_to(Slot.BLUE)
        world.pass_time(600)
        ended = run(Plan.of(Rollout(gates=ERRORS, poll_s=5.0)), upgrade_slots(), world.ports())
        events = world.journal.events
        began_s = next(event["at_s"] for event in events if event["kind"] == "stage_started")
        exposed = world.telemetry.users[Slot.GREEN].requests
        outcomes.append((ended.phase == "promoted", events[-1]["at_s"] - began_s, exposed * excess))
    return outcomes


def test_a_good_releases_time_is_that_of_the_real_engine() -> None:
    promoted = [seconds for promoted, seconds, _ in really(0.0, range(12)) if promoted]
    assert len(promoted) >= 11
    seen = foreseen()
    # Of 12 drawn times the median lies within a third of the true one, give or take.
    assert seen.median_s == pytest.approx(statistics.median(promoted), rel=0.35)


@pytest.mark.parametrize("excess", [0.04, 0.2])
def test_a_regression_that_is_foreseen_to_be_found_is_found_by_the_real_engine(excess: float) -> None:
    seen = foreseen()
    assert seen.smallest_excess is not None
    assert seen.smallest_excess <= excess
    outcomes = really(excess, range(8))
    assert not any(promoted for promoted, _, _ in outcomes)
    assert statistics.mean(failed for _, _, failed in outcomes) <= seen.worst_failed


def test_the_same_question_gets_the_same_answer() -> None:
    assert foreseen() == foreseen()


def test_more_traffic_is_quicker_and_sees_more() -> None:
    thin, thick = foreseen(Users(5.0, 0.005)), foreseen(Users(500.0, 0.005))
    assert thick.median_s < thin.median_s
    assert thin.smallest_excess is not None
    assert thick.smallest_excess is not None
    assert thick.smallest_excess < thin.smallest_excess


def test_a_shadow_stage_spares_users() -> None:
    spared = foreseen(shadow=Shadow())
    assert spared.worst_failed < foreseen().worst_failed
    assert str(spared.stages[0].stage) == "shadow"


def test_traffic_too_thin_for_the_budget_is_said_to_be() -> None:
    assert foreseen(Users(0.05, 0.005), hold_budget_s=600.0, gates=(LatencySpec(),)).too_thin
    assert not foreseen().too_thin


def test_no_traffic_at_all_promotes_nobody_and_finds_nothing() -> None:
    nothing = foreseen(Users(1e-6, 0.005), hold_budget_s=60.0, bake_s=10.0)
    assert nothing.promoted == 0
    assert nothing.median_s == float("inf")
    assert nothing.smallest_excess is None


def test_the_gate_that_is_convinced_last_is_named() -> None:
    strict = (ErrorsSpec(margin=0.01), PredictionsSpec(margin=0.005))
    assert foreseen(gates=strict).stages[-1].slowest == "predictions"
    lax = (ErrorsSpec(margin=0.005), PredictionsSpec(margin=0.2))
    assert foreseen(gates=lax).stages[-1].slowest == "errors"


def test_a_dry_run_holds_nobody_up() -> None:
    slow = foreseen(gates=(*ERRORS, PredictionsSpec(margin=0.003)))
    dry = foreseen(gates=(*ERRORS, PredictionsSpec(margin=0.003, dry_run=True)))
    assert dry.median_s < slow.median_s


def test_what_nobody_can_draw_is_named() -> None:
    seen = foreseen(gates=(*ERRORS, QualitySpec(), ApprovalSpec(before="bake")))
    assert seen.not_foreseen == ("quality", "approval")


def test_chosen_users_are_as_many_as_are_said() -> None:
    beta = ChosenUsers(header="x-group", value="beta")
    plan = Plan.of(Rollout(strategy="ab", users=beta, gates=ERRORS, poll_s=5.0))
    few = foresee(plan, Users(40.0, 0.005, chosen=0.02), 1, FEW)
    many = foresee(plan, Users(40.0, 0.005, chosen=0.4), 1, FEW)
    assert many.median_s < few.median_s
