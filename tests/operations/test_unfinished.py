"""Which journals of this machine are of a rollout that has not ended, and which only look like it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coalmine.journals.journal import FileJournal, begin
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.unfinished import (
    Waiting,
    half_recorded_rollout,
    open_rollout,
    unfinished_rollout,
)
from coalmine.operations.workspace import Workspace
from coalmine.scaffold.repository import init
from coalmine.slots import Slot, SlotRelease, Slots, dump_slots, slots_path
from tests.journals.fake_rollouts import FakeRollout, write_rollout

RUNNING = FakeRollout(ends=False)
AT_REST = Slots(
    environment=RUNNING.environment,
    model=RUNNING.model,
    stable=Slot.BLUE,
    releases={Slot.BLUE: SlotRelease(version="1.0.0", commit="c0", model_digest="d0")},
)
UNDER_WAY = AT_REST.with_candidate(SlotRelease(version=RUNNING.version, commit="c1", model_digest="d1"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    init(tmp_path / "work", examples=())
    return Workspace.open(tmp_path / "work")


def close(workspace: Workspace, decision: str) -> None:
    about = RUNNING.about
    place = f"Model: {about.model}\nEnvironment: {about.environment}"
    message = f"The end\n\n{place}\nRollout: {about.id}\nDecision: {decision}\n"
    subprocess.run(
        ["git", "commit", "--quiet", "--allow-empty", "--message", message], cwd=workspace.top, check=True
    )


def put_into_git(workspace: Workspace, slots: Slots) -> None:
    path = workspace.top / slots_path(slots.environment, slots.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_slots(slots), encoding="utf-8")
    for words in (("add", str(path)), ("commit", "--quiet", "--message", "Slots")):
        subprocess.run(["git", *words], cwd=workspace.top, check=True)


def serving(workspace: Workspace) -> LocalEnvironment:
    return LocalEnvironment(workspace, RUNNING.environment)


def waiting(workspace: Workspace) -> Waiting:
    return Waiting(workspace, serving(workspace))


NOBODY: frozenset[str] = frozenset()


def test_a_rollout_waits_for_a_runner_from_its_handing_over_to_its_end_unless_it_is_driven(
    workspace: Workspace,
) -> None:
    found = waiting(workspace)
    assert list(found.models(NOBODY)) == []
    folder = begin(workspace.top, RUNNING.about)
    assert list(found.models(NOBODY)) == []  # the release is not in its slot yet
    put_into_git(workspace, UNDER_WAY)
    assert list(found.models(NOBODY)) == [RUNNING.model]
    assert list(found.models(frozenset({RUNNING.model}))) == []
    with FileJournal(folder).lease():
        assert list(found.models(NOBODY)) == []
    write_rollout(workspace.top, FakeRollout())
    assert list(found.models(NOBODY)) == []


def test_a_journal_that_cannot_be_read_hides_no_other_model_and_is_for_its_driver_to_say(
    workspace: Workspace,
) -> None:
    folder = begin(workspace.top, RUNNING.about)
    put_into_git(workspace, UNDER_WAY)
    other = begin(workspace.top, RUNNING.about.model_copy(update={"model": "other"}))
    put_into_git(workspace, UNDER_WAY.model_copy(update={"model": "other"}))
    (folder / "about.json").write_text("{}")
    assert sorted(waiting(workspace).models(NOBODY)) == sorted([RUNNING.model, other.parent.name])


def test_a_candidate_in_git_is_open_as_soon_as_its_journal_began(workspace: Workspace) -> None:
    folder = begin(workspace.top, RUNNING.about)
    assert (
        open_rollout(serving(workspace), UNDER_WAY)
        == unfinished_rollout(workspace, serving(workspace), UNDER_WAY)
        == folder
    )


def test_a_candidate_that_began_on_another_machine_has_no_journal_here(workspace: Workspace) -> None:
    begin(workspace.top, FakeRollout(version="0.9.0").about)
    assert unfinished_rollout(workspace, serving(workspace), UNDER_WAY) is None


def test_a_rollout_that_ended_elsewhere_is_over_here_too(workspace: Workspace) -> None:
    write_rollout(workspace.top, RUNNING)
    assert unfinished_rollout(workspace, serving(workspace), AT_REST) is None


@pytest.mark.parametrize("decision", ["promoted", "rejected"])
def test_a_closing_commit_without_an_end_in_the_journal_is_to_be_finished(
    workspace: Workspace, decision: str
) -> None:
    folder = write_rollout(workspace.top, RUNNING)
    close(workspace, decision)
    assert (
        half_recorded_rollout(workspace, serving(workspace), AT_REST)
        == unfinished_rollout(workspace, serving(workspace), AT_REST)
        == folder
    )


def test_the_handing_over_is_no_closing_commit(workspace: Workspace) -> None:
    write_rollout(workspace.top, RUNNING)
    close(workspace, "candidate")
    assert half_recorded_rollout(workspace, serving(workspace), AT_REST) is None
