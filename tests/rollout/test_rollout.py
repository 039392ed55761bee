"""The rules of a rollout, as a table of stories on a fake clock."""

from __future__ import annotations

import copy
import json

import pytest

from coalmine.errors import RemoteUnavailable
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Request, TrafficSplit
from coalmine.rollout.runner import run
from coalmine.rollout.state import Phase, RolloutState
from coalmine.rollout_spec import ErrorsSpec, LatencySpec, Rollout
from coalmine.slots import Slot
from tests.simulators.world import World, first_slots, upgrade_slots

SPEC = Rollout(
    stages=(5, 25, 50),
    bake_s=20,
    hold_budget_s=900,
    no_data_budget_s=60,
    progress_deadline_s=30,
    gates=(ErrorsSpec(margin=0.01), LatencySpec(margin=0.05)),
)
PLAN = Plan.of(SPEC)


def upgrade(world: World, plan: Plan = PLAN) -> RolloutState:
    """Roll 1.1.0 (green) out beside 1.0.0 (blue), which serves everybody."""
    if world.router.split is None:
        world.router.split = TrafficSplit.all_to(Slot.BLUE)
        world.pass_time(30)  # stable has a history
    return run(plan, upgrade_slots(), world.ports())


def ask(world: World, what: Ask) -> None:
    world.journal.asked.append(Request(what, "Mia", world.now))


def sentences(world: World, kind: str) -> list[str]:
    return [event["sentence"] for event in world.journal.events if event["kind"] == kind]


def weight(world: World) -> int:
    assert world.router.split is not None
    return world.router.split.weights[Slot.GREEN]


def test_a_good_candidate_steps_through_the_stages_bakes_and_is_promoted() -> None:
    world = World()
    ended = upgrade(world)
    assert ended.phase is Phase.PROMOTED
    assert world.router.history == [5, 25, 50, 100]
    assert world.journal.story() == [
        "started", "candidate_ready", "stage_started", "stage_started", "stage_started",
        "bake_started", "promoting", "promoted",
    ]  # fmt: skip
    assert world.record.outcomes == ["promoted"]


def test_a_first_release_serves_everybody_at_once_when_it_is_ready() -> None:
    world = World()
    ended = run(PLAN, first_slots(), world.ports())
    assert ended.phase is Phase.PROMOTED
    assert world.router.split == TrafficSplit.all_to(Slot.BLUE)
    assert world.journal.polls == []


@pytest.mark.parametrize("failing", [0.05, 0.2, 1.0])
def test_a_failing_candidate_is_rolled_back_in_the_first_stage(failing: float) -> None:
    world = World()
    world.behaviour[Slot.GREEN].failing = failing
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert weight(world) == 0
    assert world.router.history == [5, 0]
    assert "failed" in ended.reason
    assert world.record.outcomes == [f"rejected: {ended.reason}"]


def test_a_slow_candidate_is_rolled_back() -> None:
    world = World()
    world.behaviour[Slot.GREEN].median_s = 0.04
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert "slower than" in ended.reason


def test_failures_of_both_arms_alike_do_not_roll_back() -> None:
    world = World()
    for arm in world.behaviour.values():
        arm.failing = 0.02
    assert upgrade(world).phase is Phase.PROMOTED


def test_a_fault_during_the_bake_brings_everybody_back() -> None:
    world = World()

    def fail_at_full_weight() -> None:
        if world.router.split is not None and weight(world) == 100:
            world.behaviour[Slot.GREEN].failing = 0.2

    for second in range(0, 1200, 5):
        world.at(second, fail_at_full_weight)
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert world.router.history == [5, 25, 50, 100, 0]


def test_no_traffic_holds_the_stage_until_its_budget_ends() -> None:
    world = World(requests_per_s=0)
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert world.router.history == [5, 0]
    assert "nothing could be measured for 60 s: No requests reach the candidate." in ended.reason
    assert world.journal.story().count("held") == 1


def test_telemetry_that_is_down_holds_and_goes_on_afterwards() -> None:
    world = World()

    def break_down() -> None:
        world.telemetry.error = "connection refused"

    def mend() -> None:
        world.telemetry.error = None

    world.at(38, break_down)
    world.at(60, mend)
    ended = upgrade(world)
    assert ended.phase is Phase.PROMOTED
    assert "held" in world.journal.story()
    assert "measured_again" in world.journal.story()


def test_telemetry_that_stays_down_rolls_back_and_never_promotes() -> None:
    world = World()
    world.at(38, lambda: setattr(world.telemetry, "error", "connection refused"))
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert "connection refused" in ended.reason


def test_a_restart_of_the_counters_drops_one_poll_and_no_more() -> None:
    world = World()
    world.at(39, world.telemetry.restart)
    ended = upgrade(world)
    assert ended.phase is Phase.PROMOTED
    dropped = [event for event in world.journal.events if "counters began anew" in event["sentence"]]
    assert len(dropped) == 1


def test_a_route_that_is_not_taken_up_holds_without_measuring() -> None:
    world = World()
    world.router.deaf = True
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert "Waiting for the route: the candidate has 0 %, not yet 5 %." in ended.reason
    assert world.journal.polls == []


def test_weights_moved_by_another_hand_are_set_again_and_the_poll_is_dropped() -> None:
    world = World()

    def meddle() -> None:
        world.router.split = TrafficSplit.canary(Slot.GREEN, 90)

    world.at(37.5, meddle)
    ended = upgrade(world)
    assert ended.phase is Phase.PROMOTED
    assert any("Somebody moved the route" in event["sentence"] for event in world.journal.events)
    assert all(poll["weight_percent"] in (5, 25, 50, 100) for poll in world.journal.polls)


def test_who_owns_the_route_is_said_once_while_nobody_can_be_moved_to_the_next_stage() -> None:
    world = World()
    world.at(38, lambda: setattr(world.router, "refusal", "it belongs to Flagger"))
    world.at(90, lambda: setattr(world.router, "refusal", None))
    ended = upgrade(world)
    assert ended.phase is Phase.PROMOTED
    assert world.router.history == [5, 25, 50, 100]
    assert sentences(world, "held") == ["The users cannot be moved: it belongs to Flagger"]


@pytest.mark.parametrize("is_readable", [True, False])
def test_users_who_cannot_be_brought_back_yet_are_told_of_and_brought_back_later(is_readable: bool) -> None:
    world = World()
    world.behaviour[Slot.GREEN].failing = 1.0

    def refuse() -> None:
        world.router.refusal, world.router.down = "it belongs to Flagger", not is_readable

    def let_go() -> None:
        world.router.refusal, world.router.down = None, False

    why = "it belongs to Flagger" if is_readable else "the simulated router is down"
    world.at(36, refuse)
    world.at(150, let_go)
    ended = upgrade(world)
    assert (ended.phase, weight(world)) == (Phase.ROLLED_BACK, 0)
    assert world.now >= 150
    told = sentences(world, "held")
    assert told[-1] == f"The users cannot be moved: {why}"
    assert len(told) == 1 + (not is_readable)


def test_a_candidate_that_cannot_start_ends_the_rollout_at_once_in_its_own_words() -> None:
    world = World()
    world.reconciler.failed = "ModuleNotFoundError: pipelines.transformers"
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert "pipelines.transformers" in ended.reason
    assert world.router.history in ([], [0])


def test_a_candidate_that_is_never_ready_ends_at_the_progress_deadline() -> None:
    world = World()
    world.reconciler.ready_after_s = 1e9
    ended = upgrade(world)
    assert "not ready within 30 s" in ended.reason


def test_a_pause_takes_no_step_but_still_rolls_back() -> None:
    world = World()
    world.at(36, lambda: ask(world, Ask.PAUSE))
    world.at(300, lambda: setattr(world.behaviour[Slot.GREEN], "failing", 0.5))
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert max(world.router.history) == 5


def test_a_resumed_rollout_goes_on() -> None:
    world = World()
    world.at(36, lambda: ask(world, Ask.PAUSE))
    world.at(1500, lambda: ask(world, Ask.RESUME))
    assert upgrade(world).phase is Phase.PROMOTED


@pytest.mark.parametrize(
    ("what", "phase", "reason"),
    [
        (Ask.ABORT, Phase.ROLLED_BACK, "aborted by Mia"),
        (Ask.SUPERSEDE, Phase.ROLLED_BACK, "superseded by a newer release (Mia)"),
        (Ask.PROMOTE, Phase.PROMOTED, "promoted early by Mia"),
    ],
    ids=str,
)
def test_what_a_person_asks_is_done_and_recorded_with_who(what: Ask, phase: Phase, reason: str) -> None:
    world = World()
    world.at(40, lambda: ask(world, what))
    ended = upgrade(world)
    assert (ended.phase, ended.reason) == (phase, reason)


def test_asking_too_late_is_told_and_changes_nothing() -> None:
    world = World()
    world.record.down_for = 3
    world.behaviour[Slot.GREEN].failing = 1.0
    world.at(42, lambda: ask(world, Ask.PROMOTE))
    ended = upgrade(world)
    assert ended.phase is Phase.ROLLED_BACK
    assert "ask_refused" in world.journal.story()


def test_users_go_back_although_the_record_cannot_be_written() -> None:
    world = World()
    world.record.down_for = 10_000
    world.behaviour[Slot.GREEN].failing = 1.0
    with pytest.raises(RemoteUnavailable):
        upgrade(world)
    assert weight(world) == 0
    world.record.down_for = 0
    assert upgrade(world).phase is Phase.ROLLED_BACK


def test_a_stage_that_stays_undecided_rolls_back_at_its_budget() -> None:
    world = World(requests_per_s=1.0)
    impatient = Plan.of(SPEC.model_copy(update={"hold_budget_s": 100, "no_data_budget_s": 1000}))
    ended = upgrade(world, impatient)
    assert ended.phase is Phase.ROLLED_BACK
    assert "still undecided after 100 s" in ended.reason


def test_a_state_survives_its_json() -> None:
    world = World()
    upgrade(world)
    assert world.journal.state is not None
    text = json.dumps(world.journal.state["state"])
    state = RolloutState.from_json(json.loads(text))
    assert RolloutState.from_json(copy.deepcopy(state.to_json())) == state
