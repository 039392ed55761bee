"""The real runner and gates on simulated traffic, over the journal's files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from coalmine.audit.report import render
from coalmine.audit.story import Course, read_story
from coalmine.journals.journal import FileJournal, begin, running
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Request, TrafficSplit
from coalmine.rollout.runner import run
from coalmine.rollout_spec import ErrorsSpec, LatencySpec, Rollout
from coalmine.slots import Slot
from tests.journals.fake_rollouts import FakeRollout, make_manifest
from tests.simulators.world import ArmBehaviour, World, upgrade_slots

SPEC = Rollout(
    stages=(5, 25, 50),
    bake_s=10,
    gates=(ErrorsSpec(margin=0.02), LatencySpec(margin=0.05)),
)


def roll_out(repository: Path, world: World) -> Path:
    folder = begin(repository, FakeRollout().about)
    world.router.split = TrafficSplit.all_to(Slot.BLUE)
    world.pass_time(30)
    run(Plan.of(SPEC), upgrade_slots(), dataclasses.replace(world.ports(), journal=FileJournal(folder)))
    return folder


def test_a_promotion_is_told_from_its_files(tmp_path: Path) -> None:
    world = World()
    folder = roll_out(tmp_path, world)
    story = read_story(folder)
    assert story.course is Course.PROMOTED
    assert [stage.weight_percent for stage in story.stages] == [5, 25, 50, 100]
    for index, stage in enumerate(story.stages):
        polls = [poll for poll in story.polls if poll.stage == (None if index == 3 else index)]
        assert stage.candidate.requests == sum(poll.candidate.requests for poll in polls) > 0
    assert "Over: promoted" in render(story, make_manifest())
    assert running(tmp_path, "local", "flight-delay") is None


def test_the_failures_of_a_bad_candidate_are_all_told(tmp_path: Path) -> None:
    world = World()
    world.behaviour[Slot.GREEN] = ArmBehaviour(failing=0.3)
    story = read_story(roll_out(tmp_path, world))
    assert story.course is Course.ROLLED_BACK
    assert story.candidate.failures > 0
    # What fell between the last reading and the turn back is on the route, not in a poll.
    assert story.candidate.failures <= world.telemetry.users[Slot.GREEN].failures
    assert "failed" in story.reason


def test_a_person_stops_it_through_the_files(tmp_path: Path) -> None:
    world = World()
    folder = begin(tmp_path, FakeRollout().about)
    world.at(40, lambda: FileJournal(folder).ask(Request(Ask.ABORT, "Mia", world.now)))
    story = read_story(roll_out(tmp_path, world))
    assert (story.course, story.reason) == (Course.ROLLED_BACK, "aborted by Mia.")
