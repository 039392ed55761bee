from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.audit.story import Course, Tally, exceedance, read_story
from tests.journals.fake_rollouts import FakeRollout, write_rollout

BAD = FakeRollout(version="2.0.0", failure_rates=(0.12, 0.001))


@pytest.mark.parametrize(
    ("fake", "course"),
    [
        (FakeRollout(), Course.PROMOTED),
        (BAD, Course.ROLLED_BACK),
        (FakeRollout(ends=False), Course.RUNNING),
        (FakeRollout(recorded=False), Course.ENDING),
    ],
    ids=["promoted", "rolled back", "in a stage", "decided"],
)
def test_where_a_rollout_stands(tmp_path: Path, fake: FakeRollout, course: Course) -> None:
    assert read_story(write_rollout(tmp_path, fake)).course is course


def test_every_poll_belongs_to_the_stage_it_was_measured_in(tmp_path: Path) -> None:
    story = read_story(write_rollout(tmp_path, FakeRollout()))
    assert [(s.label, s.weight_percent) for s in story.stages] == [
        ("Stage 1 of 3", 5),
        ("Stage 2 of 3", 25),
        ("Stage 3 of 3", 50),
        ("Bake", 100),
    ]
    for index, stage in enumerate(story.stages):
        polls = [poll for poll in story.polls if poll.stage == (None if index == 3 else index)]
        assert stage.candidate.requests == sum(poll.candidate.requests for poll in polls)
        assert stage.seconds == 2.0 * len(polls)
        assert stage.gates == polls[-1].gates
    assert sum(stage.candidate.requests for stage in story.stages) == story.candidate.requests


def test_the_reason_is_what_the_decision_said(tmp_path: Path) -> None:
    assert read_story(write_rollout(tmp_path, FakeRollout())).reason == "every gate passed, and the bake."
    assert "requests failed on the candidate" in read_story(write_rollout(tmp_path, BAD)).reason


def test_a_running_rollout_has_no_reason_and_an_open_stage(tmp_path: Path) -> None:
    story = read_story(write_rollout(tmp_path, FakeRollout(ends=False)))
    assert story.reason == ""
    assert story.stages[-1].ended_at_s == story.polls[-1].at_s


def test_no_requests_have_no_rate() -> None:
    assert Tally(0, 0).failure_rate is None
    assert Tally(4, 1).failure_rate == 0.25


def test_exceedance_counts_what_took_longer_than_each_bound(tmp_path: Path) -> None:
    story = read_story(write_rollout(tmp_path, FakeRollout()))
    longer = exceedance(story, lambda poll: poll.candidate)
    assert longer[0.005] == (story.candidate.requests, story.candidate.requests)
    assert longer[1.0] == (0, story.candidate.requests)
    shares = [over for over, _ in longer.values()]
    assert shares == sorted(shares, reverse=True)
