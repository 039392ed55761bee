"""Which process is the runner service of an environment, if there is one: one at a time."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from coalmine.cluster.lease import Lease, Leases, new_identity
from coalmine.errors import AlreadyRunning
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


class LeaseRunnerLock:
    """For an environment of a cluster, on whichever machine the service is."""

    NAME = "coalmine-runner"

    def __init__(self, leases: Leases, environment: str) -> None:
        self._leases = leases
        self._environment = environment
        self._seen: Lease | None = None
        self._look_again_s = float("-inf")

    @contextmanager
    def held(self, who: str) -> Iterator[None]:
        """Where the service was killed, for its lease to be over; where it lives, until that is seen."""
        identity = new_identity(f"started by {who}")
        with ExitStack() as stack:
            while not self._take(identity, stack):
                time.sleep(self._leases.terms.look_every_s)
            yield

    def _take(self, identity: str, stack: ExitStack) -> bool:
        try:
            stack.enter_context(self._leases.held(self.NAME, identity, _LABELS, self._refusal))
        except AlreadyRunning:
            lease = self._leases.look(self.NAME)
            if lease is not None and lease.seen_renewed:
                raise
            return False
        return True

    def is_held(self) -> bool:
        """As it was seen no longer ago than a lease goes unrenewed: followers ask often, and are many."""
        if time.monotonic() >= self._look_again_s:
            self._seen = self._leases.look(self.NAME)
            self._look_again_s = time.monotonic() + self._leases.terms.renewed_every_s
        return self._seen is not None and self._seen.is_held(self._leases.terms)

    def _refusal(self, lease: Lease) -> str:
        return f"The runner service of {self._environment} is already running ({lease.held_by})."


_LABELS = {"app.kubernetes.io/part-of": "coalmine", "app.kubernetes.io/component": "runner"}
