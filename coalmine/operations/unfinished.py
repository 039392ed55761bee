"""Rollouts that their runner left unfinished: what Git and this machine's journals say of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coalmine.audit import journal
from coalmine.audit.record import closing_commit
from coalmine.errors import CoalmineError
from coalmine.operations.serving_environment import ServingEnvironment
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


class Waiting:
    """Finds the models of an environment whose rollout nobody drives; cheap enough to ask every second.

    What ended stays ended and is read once. Git is asked only about rollouts without an end, and
    about those that it said are not to be driven (handed over by halves, or taken out of the slots
    by hand) only once it has moved on.
    """

    def __init__(self, workspace: Workspace, serving: ServingEnvironment) -> None:
        self._workspace = workspace
        self._serving = serving
        self._ended: set[Path] = set()
        self._not_ours: dict[Path, str] = {}  # and the commit that said so

    def models(self, under_way: frozenset[str]) -> Iterator[str]:
        for folder in journal.newest_rollouts(self._workspace.top, self._serving.name):
            model = folder.parent.name
            try:
                if model not in under_way and self._is_waiting(folder):
                    yield model
            except CoalmineError:
                yield model  # whoever drives it meets the same error, and says so

    def _is_waiting(self, folder: Path) -> bool:
        if folder in self._ended or journal.is_driven(folder):
            return False
        if journal.has_ended(folder):
            self._ended.add(folder)
            return False
        head = self._workspace.repository.head()
        if self._not_ours.get(folder) == head:
            return False
        if unfinished_rollout(self._workspace, self._serving.slots(folder.parent.name)) is None:
            self._not_ours[folder] = head
            return False
        return True
