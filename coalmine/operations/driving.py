"""Who drives a rollout: the process that asked for it, or the environment's runner service.

A delivery drives its rollout itself, unless `coalmine runner` is alive for the environment: then
it leaves the rollout to that process and follows its journal, with the same end and the same
errors. Should the service end meanwhile, the delivery drives the rollout from where it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from coalmine import errors
from coalmine.errors import AlreadyRunning, CoalmineError, Unavailable
from coalmine.journals.rollouts import Rollouts
from coalmine.journals.runner_lock import RunnerLock
from coalmine.rollout.runner import Ports
from coalmine.rollout.state import RolloutState

LOOK_EVERY_S = 0.3
LOST_SIGHT_FOR_S = 600.0  # of a rollout on a cluster that does not answer; it goes on without who follows it
TROUBLE = "trouble.json"

Act = Callable[[Ports], RolloutState]
Drive = Callable[[Ports, Act], RolloutState]


def alone(ports: Ports, act: Act) -> RolloutState:
    """In this process."""
    return act(ports)


def driving(rollouts: Rollouts, folder: Path) -> Drive:
    """How a delivery drives the rollout whose journal is `folder`."""
    if not rollouts.runner.is_held():
        return alone
    return lambda ports, act: _followed(rollouts.runner, folder, ports, act)


def _followed(lock: RunnerLock, folder: Path, ports: Ports, act: Act) -> RolloutState:
    """The rollout's last state, once the service has driven it to its end.

    Raises:
        CoalmineError: what the service met since this was called, as if it had happened here.
    """
    since_s = seen_s = time.time()
    while True:
        try:
            saved, service_is_there = ports.journal.load(), lock.is_held()
            seen_s = time.time()
        except Unavailable:
            if time.time() - seen_s > LOST_SIGHT_FOR_S:
                raise
            ports.clock.sleep(LOOK_EVERY_S)
            continue
        if saved is not None and (state := RolloutState.from_json(saved["state"])).phase.ended:
            return state
        trouble = read_trouble(folder)
        if trouble is not None and trouble.at_s >= since_s:
            raise trouble.as_error()
        if not service_is_there:
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


def write_trouble(rollouts: Rollouts, folder: Path, trouble: Trouble) -> None:
    """Beside the journal, for whoever follows the rollout; replaced by the next, never taken away."""
    rollouts.leave(folder, TROUBLE, json.dumps(asdict(trouble)))


def read_trouble(folder: Path) -> Trouble | None:
    try:
        return Trouble(**json.loads((folder / TROUBLE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # it only ever tells what stands in the service's log too
