"""Rollouts that their runner left unfinished: what Git and the journals say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from coalmine.audit.record import closing_commit
from coalmine.errors import CoalmineError, Unavailable
from coalmine.journals import journal
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.workspace import Workspace
from coalmine.slots import Slots


def unfinished_rollout(workspace: Workspace, serving: ServingEnvironment, slots: Slots) -> Path | None:
    """The journal of the rollout that is under way, whether or not its runner is alive."""
    at_hand = serving.rollouts.at_hand(slots.model)
    found = _open(at_hand, slots) or _half_recorded(workspace, at_hand, slots)
    if found is None and serving.rollouts.are_shared:
        # Another machine's, and Git here lacks its commit: it is under way all the same.
        return at_hand[-1] if at_hand else None
    return found


def open_rollout(serving: ServingEnvironment, slots: Slots) -> Path | None:
    """The journal of the candidate in `slots`; None when there is none, or it lies elsewhere."""
    return _open(serving.rollouts.at_hand(slots.model), slots)


def _open(at_hand: Sequence[Path], slots: Slots) -> Path | None:
    if slots.candidate_release is None:
        return None
    for folder in reversed(at_hand):
        if journal.read_about(folder).candidate == slots.candidate_release.version:
            return folder
    return None


def half_recorded_rollout(workspace: Workspace, serving: ServingEnvironment, slots: Slots) -> Path | None:
    """The journal of a rollout that has its closing commit and no end: its runner died in between.

    The commit may not have been pushed. Its users are where they stay; only the record is to be finished.
    """
    return _half_recorded(workspace, serving.rollouts.at_hand(slots.model), slots)


def _half_recorded(workspace: Workspace, at_hand: Sequence[Path], slots: Slots) -> Path | None:
    if slots.candidate_release is not None:
        return None
    running = [folder for folder in at_hand if journal.is_running(folder)]
    if not running or closing_commit(workspace.repository, journal.read_about(running[-1])) is None:
        return None
    return running[-1]


class Waiting:
    """Finds the models of an environment whose rollout nobody drives; cheap enough to ask every second.

    What ended stays ended and is read once. Git is asked only about rollouts without an end, and
    about those that it said are not to be driven (handed over by halves, or taken out of the slots
    by hand) only once it has moved on.
    """

    def __init__(self, workspace: Workspace, serving: ServingEnvironment) -> None:
        self._workspace = workspace
        self._serving = serving
        self._rollouts = serving.rollouts
        self._ended: set[Path] = set()
        self._not_ours: dict[Path, str] = {}  # and the commit that said so

    def models(self, under_way: frozenset[str]) -> Iterator[str]:
        try:
            undriven = list(self._rollouts.undriven())
        except Unavailable:
            return  # looked for again in a second
        for folder in undriven:
            model = folder.parent.name
            try:
                if model not in under_way and self._is_waiting(folder):
                    yield model
            except CoalmineError:
                yield model  # whoever drives it meets the same error, and says so

    def _is_waiting(self, folder: Path) -> bool:
        if folder in self._ended:
            return False
        if journal.has_ended(folder):
            self._ended.add(folder)
            return False
        head = self._workspace.repository.head()
        if self._not_ours.get(folder) == head:
            return False
        slots = self._serving.slots(folder.parent.name)
        if unfinished_rollout(self._workspace, self._serving, slots) is None:
            self._not_ours[folder] = head
            return False
        return True
