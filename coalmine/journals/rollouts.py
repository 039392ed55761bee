"""The rollouts of one environment, whoever drives them: who may move the users, and who is to be asked.

What is known of a rollout is read from its folder on this machine, by the functions of `journal`. Where
other machines drive rollouts of the same environment, that folder is a copy, and `refresh` makes it new.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from coalmine.durable import replace_text
from coalmine.journals import journal
from coalmine.journals.lines import FileLines, Lines
from coalmine.journals.runner_lock import FileRunnerLock, RunnerLock
from coalmine.rollout.ports import Journal, Request

NOTICES = "notified.jsonl"


class Rollouts(Protocol):
    """
    are_shared: other machines drive rollouts of this environment too.

    Raises, wherever it must ask a cluster:
        Unavailable: it does not answer; safe to repeat.
    """

    @property
    def are_shared(self) -> bool: ...

    @property
    def runner(self) -> RunnerLock:
        """The environment's runner service."""

    # --- which there are -------------------------------------------------------------------

    def folders(self, model: str) -> list[Path]:
        """All that this machine knows, newest last."""

    def at_hand(self, model: str) -> list[Path]:
        """Those that may be under way, newest last, as they are now."""

    def undriven(self) -> Iterator[Path]:
        """Each model's newest, where nobody drives it. Cheap enough to ask every second."""

    def refresh(self, model: str) -> None:
        """The folder of the newest rollout is as the rollout is now, whoever drives it."""

    def catch_up(self) -> None:
        """What other machines recorded in Git is here too.

        Raises:
            RemoteUnavailable: the Git remote cannot be reached.
            PushRejected: what is here and what is there cannot be joined; says why.
        """

    # --- one of them -----------------------------------------------------------------------

    def publish(self, folder: Path) -> None:
        """Git has its candidate: whoever looks after the environment finds the rollout in `folder`, with
        its plan. Idempotent.

        Raises:
            AlreadyRunning: somebody drives another rollout of the model.
            Conflict: a later one is in its place.
        """

    def journal(self, folder: Path) -> Journal:
        """Loaded by one who does not hold its lease, it follows whoever does."""

    def is_driven(self, folder: Path) -> bool:
        """Whether a runner holds the lease of the rollout's model."""

    def ask(self, folder: Path, request: Request) -> None:
        """Leave `request` for the runner, which takes it at its next poll.

        Raises:
            NotFound: there is no such rollout, or it is over.
        """

    def notices(self, folder: Path) -> Lines:
        """What was sent of the rollout, and to whom."""

    def leave(self, folder: Path, name: str, text: str) -> None:
        """A file `name` in the folder, for whoever follows the rollout; replaced by the next of that name."""


class LocalRollouts:
    """Of an environment of this machine: the folders are the truth."""

    are_shared = False

    def __init__(self, top: Path, environment: str) -> None:
        self._top = top
        self._environment = environment
        self.runner: RunnerLock = FileRunnerLock(top, environment)

    def folders(self, model: str) -> list[Path]:
        return journal.rollouts(self._top, self._environment, model)

    def at_hand(self, model: str) -> list[Path]:
        return self.folders(model)

    def undriven(self) -> Iterator[Path]:
        for folder in journal.newest_rollouts(self._top, self._environment):
            if not self.is_driven(folder):
                yield folder

    def refresh(self, model: str) -> None:
        pass

    def catch_up(self) -> None:
        pass  # nobody else serves here, so that nobody else records anything of it

    def publish(self, folder: Path) -> None:
        pass

    def journal(self, folder: Path) -> journal.FileJournal:
        return journal.FileJournal(folder)

    def is_driven(self, folder: Path) -> bool:
        return journal.is_driven(folder)

    def ask(self, folder: Path, request: Request) -> None:
        journal.FileJournal(folder).ask(request)

    def notices(self, folder: Path) -> Lines:
        return FileLines(folder / NOTICES)

    def leave(self, folder: Path, name: str, text: str) -> None:
        replace_text(folder / name, text)
