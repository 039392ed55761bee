"""How a step of an operation becomes a Prefect task: named, tagged, and with something to read.

Whether Prefect may repeat a step is decided here: those that only read and compute, or that are
one idempotent commit, when what they need was unavailable; those that move users are not. Run
again, a flow goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import State, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from coalmine.errors import CoalmineError, ReviewAwaited, Unavailable
from coalmine.operations.steps import Step, Steps
from flows import artifacts

T = TypeVar("T")

TAGS = {
    Step.INGEST: ["data"],
    Step.VALIDATE: ["data"],
    Step.TRAIN: ["training"],
    Step.DECIDE: ["release"],
    Step.RECORD: ["release", "git"],
    Step.HAND_OVER: ["delivery", "git"],
    Step.ROLL_OUT: ["delivery"],
    Step.ROLL_BACK: ["delivery"],
}
REPEATABLE = {Step.INGEST, Step.DECIDE, Step.RECORD}
RETRY_DELAY_S = 10.0


def tasks_about(model: str) -> Steps:
    """Carry each step about `model` out as a task of the flow run around it."""

    def as_task(step: Step, act: Callable[[], T], /) -> T:
        @task(
            name=step.value,
            task_run_name=step.value,
            tags=TAGS[step],
            retries=2,
            retry_delay_seconds=RETRY_DELAY_S,
            retry_condition_fn=_may_repeat if step in REPEATABLE else _never,
            cache_policy=NO_CACHE,
        )
        def carry_out() -> T | State[Any]:
            try:
                result = act()
            except CoalmineError as error:
                # Returned, not raised: its message says it all, and Prefect would bury it in a trace.
                return Failed(message=str(error), data=error)
            artifacts.publish(model, result)
            return result

        ended: State[Any] = carry_out(return_state=True)
        result: T = ended.result()  # raises the error of a step that failed
        return result

    return as_task


def tell(sentence: str) -> None:
    """Progress, into the run's log."""
    get_run_logger().info(sentence)


def _may_repeat(_task: object, _run: object, failed: State[Any]) -> bool:
    """Bad input stays bad; only what was unavailable is tried again, and not what waited for a reviewer."""
    error = failed.result(raise_on_failure=False)
    return isinstance(error, Unavailable) and not isinstance(error, ReviewAwaited)


def _never(_task: object, _run: object, _failed: State[Any]) -> bool:
    return False
