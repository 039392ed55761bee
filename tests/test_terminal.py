"""What a person sees of a rollout in a terminal, read from its journal alone."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from coalmine.audit.story import Story, read_story, tell
from coalmine.journals.rollouts import LocalRollouts
from coalmine.rollout.events import EventKind
from coalmine.slots import Slot
from coalmine.terminal import rollout_panel, watching
from tests.audit.simulated_rollouts import EVERYTHING, simulate
from tests.journals.fake_rollouts import FakeRollout, write_rollout
from tests.simulators.world import ArmBehaviour, World


def shown(story: Story, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(rollout_panel(story))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Story:
    world = World(requests_per_s=120)
    for slot in Slot:
        world.behaviour[slot] = ArmBehaviour(failing=0.004)
    return read_story(simulate(tmp_path_factory.mktemp("terminal"), EVERYTHING, world))


def until(story: Story, kind: EventKind) -> Story:
    """The story as it was when `kind` was told."""
    number = next(n for n, event in enumerate(story.events) if event.kind is kind)
    events = list(story.events[: number + 1])
    polls = [poll for poll in story.polls if poll.at_s <= events[-1].at_s]
    return tell(story.about, events, polls, story.plan)


def test_while_an_approval_is_waited_for_the_panel_says_so_and_what_to_type(everything: Story) -> None:
    panel = shown(until(everything, EventKind.NEEDS_APPROVAL))
    assert "shadow → 10 % → 50 % → bake" in panel
    assert "needs approval: Waiting for a person: approval is asked before bake." in panel
    assert "coalmine approve flight-delay  goes on, in your name" in panel
    assert "predictions (dry run)" in panel
    assert "not asked here" in panel  # agreement, in a stage without copies
    assert "memory" in panel
    assert "passed" in panel


def test_rates_come_with_limits_that_hold_whenever_one_looks(everything: Story) -> None:
    candidate = next(line for line in shown(everything).splitlines() if "candidate 1.1.0" in line)
    assert f"{everything.candidate.failure_rate:.2%}" in candidate
    assert " to " in candidate


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(everything: Story, width: int) -> None:
    assert max(len(line) for line in shown(everything, width).splitlines()) <= width


@pytest.mark.parametrize("kind", [EventKind.STARTED, EventKind.STAGE_STARTED, EventKind.PROMOTED])
def test_there_is_a_panel_at_every_moment(everything: Story, kind: EventKind) -> None:
    assert "flight-delay 1.1.0 → local" in shown(until(everything, kind))


def test_a_gate_without_a_number_shows_none(everything: Story) -> None:
    last = everything.polls[-1]
    broken = dataclasses.replace(last.gates[0], log_e_promote=float("nan"), log_e_roll_back=float("nan"))
    poll = dataclasses.replace(last, gates=(broken, *last.gates[1:]))
    assert "▯" in shown(dataclasses.replace(everything, polls=(*everything.polls[:-1], poll)))


def test_without_a_terminal_each_event_is_one_line(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=False)
    with watching(LocalRollouts(tmp_path, "local"), "flight-delay", console):
        folder = write_rollout(tmp_path, FakeRollout())
    output = console.file
    assert isinstance(output, io.StringIO)
    assert len(output.getvalue().splitlines()) == len(read_story(folder).events)
