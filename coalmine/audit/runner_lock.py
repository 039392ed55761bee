"""Which process is the runner service of an environment, if there is one: one at a time."""

from __future__ import annotations

import fcntl
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from coalmine.registry.locks import exclusive
from coalmine.settings import STATE

# Another command may be looking at the lock at the very moment at which the service starts.
_LOOKING_TAKES_S = 1.0


class RunnerLock(Protocol):
    """The right to be the runner service; it ends with the process that holds it, however that ends."""

    def held(self, who: str) -> AbstractContextManager[None]:
        """
        Raises:
            AlreadyRunning: another process is the service; names it.
        """

    def is_held(self) -> bool:
        """Whether a runner service is alive.

        Raises:
            Unavailable: it cannot be seen from here.
        """


class FileRunnerLock:
    """For an environment of this machine: the kernel gives the lock back when its holder dies."""

    def __init__(self, top: Path, environment: str) -> None:
        self._environment = environment
        self._path = top / STATE / "locks" / f"runner-{environment}"

    def held(self, who: str) -> AbstractContextManager[None]:
        what = f"The runner service of {self._environment}"
        return exclusive(self._path, what, who, wait_s=_LOOKING_TAKES_S)

    def is_held(self) -> bool:
        try:
            with self._path.open("rb") as file:
                # Shared: those who look do not refuse one another.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False
