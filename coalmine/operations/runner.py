"""`coalmine runner`: one process that drives every rollout of an environment.

It finds those that a delivery has handed over and those whose runner is gone, and drives each by
the same code as a delivery that is alone. What people ask (pause, abort, ...) and a newer release
reach a rollout through its journal, whoever drives it. On SIGTERM it leaves the rollouts as they
are, and the next runner goes on with them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import time

from coalmine import errors
from coalmine.errors import AlreadyRunning, CoalmineError, Unavailable
from coalmine.manifest import Trigger
from coalmine.operations.deliver import resume
from coalmine.operations.driving import Act, Trouble, write_trouble
from coalmine.operations.environments import open_environment
from coalmine.operations.runner_metrics import LOOPBACK, RunnerMetrics, served
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.unfinished import Waiting
from coalmine.operations.workspace import Tell, Workspace
from coalmine.rollout.fleet import LOOK_EVERY_S, Fleet, FleetClock
from coalmine.rollout.runner import Ports
from coalmine.rollout.state import RolloutState
from coalmine.rollout.watched import watched

# Less than a supervisor, Docker or Kubernetes waits before SIGKILL (10 s), which loses nothing either.
ENDS_WITHIN_S = 8.0


def serve(
    workspace: Workspace,
    environment: str,
    trigger: Trigger,
    tell: Tell,
    *,
    metrics_port: int | None = None,
    metrics_host: str = LOOPBACK,
) -> None:
    """Drive the rollouts of `environment` until SIGTERM or SIGINT; called in the main thread.

    Raises:
        NotFound: no such environment.
        RepositoryUnready: no Git remote, or not on the branch of releases.
        AlreadyRunning: another process is the runner of this environment.
        MachineUnready: the environment cannot be started, or cannot listen for
            scrapes on `metrics_host` and `metrics_port`.
    """
    serving = open_environment(workspace, environment)
    workspace.require_record()
    metrics = RunnerMetrics(environment, lambda: serving.cluster_requests)
    with (
        serving.watching(),
        serving.rollouts.runner.held(trigger.who),
        served(metrics, metrics_port, metrics_host),
        asked_to_end() as ending,
    ):
        serving.up()
        service = _Service(workspace, serving, trigger, metrics, tell)
        waiting = Waiting(workspace, serving)
        fleet = Fleet(find=waiting.models, drive=service.drive, failed=service.failed)
        tell(f"Driving the rollouts of {environment}.")
        while not ending.is_set():
            fleet.look()
            metrics.looked()
            ending.wait(LOOK_EVERY_S)
        under_way = ", ".join(sorted(fleet.under_way))
        fleet.halt(ENDS_WITHIN_S)
    tell(f"Ended. To be gone on with: {under_way or 'nothing'}.")


class _Service:
    """How this process drives one model's rollout, and what it does when that fails."""

    def __init__(
        self,
        workspace: Workspace,
        serving: ServingEnvironment,
        trigger: Trigger,
        metrics: RunnerMetrics,
        tell: Tell,
    ) -> None:
        self._workspace = workspace
        self._serving = serving
        self._trigger = trigger
        self._metrics = metrics
        self._tell = tell

    def drive(self, model: str, halting: threading.Event) -> None:
        """
        Raises:
            Halted: at the end of a tick, once `halting` is set.
        """
        watch = self._metrics.of(model)

        def counted(ports: Ports, act: Act) -> RolloutState:
            return act(replace(watched(ports, watch), clock=FleetClock(halting, watch)))

        try:
            resume(self._workspace, self._serving, model, self._trigger, self._tell, drive=counted)
        except AlreadyRunning:
            pass  # a delivery drives it itself, or records something of its own: looked at again
        finally:
            self._metrics.left(model)

    def failed(self, model: str, error: Exception, again_in_s: float) -> None:
        self._metrics.restarting(error)
        self._tell(f"The rollout of {model} cannot be driven, again in {again_in_s:g} s: {_words(error)}")
        rollouts = self._serving.rollouts
        folders = rollouts.folders(model)
        if folders:
            with suppress(Unavailable):  # the service's log has it too
                write_trouble(rollouts, folders[-1], Trouble(_kind(error), _words(error), time()))


def _kind(error: Exception) -> str:
    """The most special of the types in `coalmine.errors`: adapters have some of their own."""
    known = (each.__name__ for each in type(error).__mro__ if each.__module__ == errors.__name__)
    return next(known, type(error).__name__)


def _words(error: Exception) -> str:
    if isinstance(error, CoalmineError):
        return str(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    return f"{type(error).__name__}: {error}{where}. That is a mistake in coalmine: please report it"


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """Set by SIGTERM and SIGINT while the block runs."""
    ending = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: ending.set()) for number in numbers}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
