"""How a flow run ends, as its users see it in the list of runs.

The names are events too, to which a Prefect automation can react: `prefect.flow-run.RolledBack`.
A kept champion and a release that was rolled back are no errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from prefect import State, get_run_logger
from prefect.states import Cancelled, Completed, Failed

from coalmine.errors import AlreadyRunning, CoalmineError, NotYetAdmitted
from coalmine.operations.deliver import Delivered
from coalmine.operations.due import DueModels
from coalmine.operations.eligible import EligibleReleases
from coalmine.operations.record import Recorded
from coalmine.operations.rollback import RolledBack
from coalmine.operations.watch import Looked

Result = Recorded | Delivered | RolledBack | DueModels | EligibleReleases | Looked


def conclude(act: Callable[[], Result]) -> State[Any]:
    """Carry `act` out; the state that its flow run ends in."""
    try:
        return _state(act())
    except AlreadyRunning as error:
        return Cancelled(message=str(error))  # another run does it
    except NotYetAdmitted as error:
        return Cancelled(name="NotYet", message=str(error))  # nothing is wrong: it may go later
    except CoalmineError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))


def _state(result: Result) -> State[Any]:
    match result:
        case Recorded():
            return _of_retraining(result)
        case Delivered(rollout=None):
            return Completed(name="Unchanged", message=f"{result.model} {result.version} serves already.")
        case Delivered():
            name = "Promoted" if result.promoted else "RolledBack"
            return Completed(name=name, message=f"{result.model} {result.version}: {result.reason}.")
        case RolledBack():
            since = f"{result.since:%Y-%m-%d %H:%M:%S} UTC"
            record = "its rollout's" if result.commit is None else result.commit[:12]
            message = (
                f"{result.model}: everybody is back on {result.now} since {since}, after {result.before}. "
                f"Record: {record}."
            )
            return Completed(name="RolledBack", message=message)
        case DueModels():
            return _of_due(result)
        case Looked():
            return _of_look(result)
        case EligibleReleases():
            return _of_releases(result)
        case _:
            assert_never(result)


def _of_retraining(recorded: Recorded) -> State[Any]:
    if not recorded.changed:
        serves = recorded.version or recorded.champion
        return Completed(name="Unchanged", message=f"Nothing changed for {recorded.model} since {serves}.")
    name = "Kept" if recorded.version is None else "Released"
    return Completed(name=name, message=" ".join(recorded.reasons))


def _of_look(looked: Looked) -> State[Any]:
    if looked.matches:
        return Completed(name="AsGitSays", message=f"{looked.environment} is as Git says.")
    found = "; ".join(str(each.finding) for each in looked.findings)
    return Completed(name="NotAsGitSays", message=f"{looked.environment} is not as Git says: {found}")


def _of_due(found: DueModels) -> State[Any]:
    due = [each.model for each in found.models if each.causes]
    if not due:
        return Completed(name="NothingDue", message="No model is due.")
    return Completed(name="Due", message=f"Due: {', '.join(due)}.")


def _of_releases(found: EligibleReleases) -> State[Any]:
    may_go = [f"{each.model} {each.version}" for each in found.models if each.version is not None]
    if not may_go:
        return Completed(name="NothingEligible", message="No release may go now.")
    return Completed(name="Eligible", message=f"May go: {', '.join(may_go)}.")
