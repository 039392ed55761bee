"""Who drives a rollout: the process that asked for it, or the environment's runner service.

A delivery drives its rollout itself, unless `coalmine runner` is alive for the environment: then
it leaves the rollout to that process and follows its journal, with the same end and the same
errors. Should the service end meanwhile, the delivery drives the rollout from where it is.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from coalmine import errors
from coalmine.durable import replace_json
from coalmine.errors import AlreadyRunning, CoalmineError
from coalmine.registry.locks import exclusive
from coalmine.rollout.runner import Ports
from coalmine.rollout.state import RolloutState
from coalmine.settings import STATE

LOOK_EVERY_S = 0.3
# Another command may be looking at the lock at the very moment at which the service starts.
_LOOKING_TAKES_S = 1.0
TROUBLE = "trouble.json"

Act = Callable[[Ports], RolloutState]
Drive = Callable[[Ports, Act], RolloutState]


def alone(ports: Ports, act: Act) -> RolloutState:
    """In this process."""
    return act(ports)


class RunnerLock:
    """The right to be the runner service of an environment; the kernel gives it back when its holder dies."""

    def __init__(self, top: Path, environment: str) -> None:
        self._environment = environment
        self._path = top / STATE / "locks" / f"runner-{environment}"

    def held(self, who: str) -> AbstractContextManager[None]:
        """
        Raises:
            AlreadyRunning: another process is the service; names it.
        """
        what = f"The runner service of {self._environment}"
        return exclusive(self._path, what, who, wait_s=_LOOKING_TAKES_S)

    def is_held(self) -> bool:
        """Whether a runner service is alive."""
        try:
            with self._path.open("rb") as file:
                # Shared: those who look do not refuse one another.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def driving(top: Path, environment: str, folder: Path) -> Drive:
    """How a delivery drives the rollout whose journal is `folder`."""
    lock = RunnerLock(top, environment)
    if not lock.is_held():
        return alone
    return lambda ports, act: _followed(lock, folder, ports, act)


def _followed(lock: RunnerLock, folder: Path, ports: Ports, act: Act) -> RolloutState:
    """The rollout's last state, once the service has driven it to its end.

    Raises:
        CoalmineError: what the service met since this was called, as if it had happened here.
    """
    since_s = time.time()
    while True:
        saved = ports.journal.load()
        if saved is not None and (state := RolloutState.from_json(saved["state"])).phase.ended:
            return state
        trouble = read_trouble(folder)
        if trouble is not None and trouble.at_s >= since_s:
            raise trouble.as_error()
        if not lock.is_held():
            try:
                return act(ports)
            except AlreadyRunning:
                pass  # the service is just ending, or a new one was quicker
        ports.clock.sleep(LOOK_EVERY_S)


# --- what stopped the service from driving a rollout -----------------------------------


@dataclass(frozen=True)
class Trouble:
    """kind: the name of the error's type, in `coalmine.errors` unless it was a mistake of ours."""

    kind: str
    message: str
    at_s: float

    def as_error(self) -> CoalmineError:
        known = getattr(errors, self.kind, CoalmineError)
        error: CoalmineError = known(self.message)
        return error


def write_trouble(folder: Path, trouble: Trouble) -> None:
    """Beside the journal, for whoever follows the rollout; replaced by the next, never taken away."""
    replace_json(folder / TROUBLE, asdict(trouble))


def read_trouble(folder: Path) -> Trouble | None:
    try:
        return Trouble(**json.loads((folder / TROUBLE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # it only ever tells what stands in the service's log too
