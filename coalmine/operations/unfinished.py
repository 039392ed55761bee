"""Rollouts that their runner left unfinished: what Git and this machine's journals say of them."""

from __future__ import annotations

from pathlib import Path

from coalmine.audit import journal
from coalmine.audit.record import closing_commit
from coalmine.operations.workspace import Workspace
from coalmine.slots import Slots


def unfinished_rollout(workspace: Workspace, slots: Slots) -> Path | None:
    """The journal of the rollout that is under way on this machine, whether or not its runner is alive."""
    return open_rollout(workspace, slots) or half_recorded_rollout(workspace, slots)


def open_rollout(workspace: Workspace, slots: Slots) -> Path | None:
    """The journal of the candidate in `slots`; None when there is none, or its rollout began elsewhere."""
    if slots.candidate_release is None:
        return None
    for folder in reversed(journal.rollouts(workspace.top, slots.environment, slots.model)):
        if journal.read_about(folder).candidate == slots.candidate_release.version:
            return folder
    return None


def half_recorded_rollout(workspace: Workspace, slots: Slots) -> Path | None:
    """The journal of a rollout that has its closing commit and no end: its runner died in between.

    The commit may not have been pushed. Its users are where they stay; only the record is to be finished.
    """
    if slots.candidate_release is not None:
        return None
    folder = journal.running(workspace.top, slots.environment, slots.model)
    if folder is None or closing_commit(workspace.repository, folder.name) is None:
        return None
    return folder
