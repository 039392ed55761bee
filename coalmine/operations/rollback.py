"""Back to an older release: the route first, in seconds, then the record (`going_back`).

Where the other slot holds the release, that needs no Git remote. During a rollout its runner takes the users
back to stable, and from there the way goes on to the version that was asked for.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coalmine.audit.record import closing_commit
from coalmine.errors import (
    InputError,
    MachineUnready,
    NotFound,
    PushRejected,
    RemoteUnavailable,
    Unavailable,
)
from coalmine.journals import journal
from coalmine.manifest import Trigger
from coalmine.operations.champion import release
from coalmine.operations.environments import open_environment
from coalmine.operations.going_back import Intent, carry_out, finish, intend
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.signatures import require_signed
from coalmine.operations.steer import steer
from coalmine.operations.steps import Steps, directly
from coalmine.operations.unfinished import unfinished_rollout
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.tags import assignments
from coalmine.rollout.ports import Ask, TrafficSplit
from coalmine.rollout.state import Phase, RolloutState
from coalmine.slots import Slots
from coalmine.spec import load_model_spec

_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class RolledBack:
    """since: when the users were on `now`. commit: of the record; None: the rollout's runner makes it."""

    model: str
    before: str
    now: str
    since: datetime
    commit: str | None


def roll_back(
    workspace: Workspace,
    model: str,
    environment: str,
    trigger: Trigger,
    tell: Tell,
    *,
    to: str | None = None,
    steps: Steps = directly,
) -> RolledBack:
    """
    to: a version; default: stable during a rollout, and at rest the one in the other slot.

    A rollback whose record waits is finished first; without `to` that is all.

    Raises:
        NotFound: nothing serves, or there is no such release.
        InputError: the version asked for is the one that is being rolled out.
        IntegrityError: the release's bytes are not what its manifest says, or signatures are required and
            nobody allowed has signed it; the users stay.
        ServerUnavailable: it does not start; the users stay.
        CoalmineError: the users are back, but the record waits, and why: run again to finish.
    """
    spec = load_model_spec(workspace.top, model)
    serving = open_environment(workspace, environment)
    # To go back waits for no remote and no key.
    with suppress(RemoteUnavailable, PushRejected, MachineUnready):
        serving.rollouts.catch_up()
    wanted = None if to is None else to.removeprefix("v")
    finished = finish(workspace, serving, model, tell, steps)
    if finished is not None and wanted in (None, finished[0].good):
        return _told(*finished)
    slots = serving.slots(model)
    stable, candidate = slots.stable_release, slots.candidate_release
    if stable is None:
        raise NotFound(f"{model} serves nobody in {environment}: there is nothing to go back from")
    if candidate is not None:
        wanted = wanted or stable.version
        if wanted == candidate.version:
            raise InputError(
                f"{model} {wanted} is what is being rolled out in {environment}, not an older one"
            )
        further = release(workspace.repository, model, wanted)  # there is one, before anything is stopped
        if wanted != stable.version:
            require_signed(workspace, environment, [(model, wanted, further.commit)])
        since = _abort(workspace, serving, slots, wanted, trigger, tell, spec.rollout.no_data_budget_s)
        slots = serving.slots(model)
        if slots.stable_release is not None and slots.stable_release.version == wanted:
            return RolledBack(model, candidate.version, wanted, since, _closing(workspace, serving, slots))
    elif stable.version == wanted:
        raise NotFound(f"{model} {wanted} serves {environment} already: there is nothing to go back to")
    after = _after(workspace, serving, slots, wanted)
    target = after.stable_release
    assert target is not None
    require_signed(workspace, environment, [(model, target.version, target.commit)])
    number = max(assignments(workspace.repository, model, environment), default=0) + 1
    intent = Intent(before=slots, after=after, assignment=number, triggered_by=trigger)
    intend(workspace.top, intent)
    return _told(*carry_out(workspace, serving, intent, tell, steps))


def _told(intent: Intent, commit: str) -> RolledBack:
    assert intent.moved_at_s is not None
    since = datetime.fromtimestamp(intent.moved_at_s, UTC)
    return RolledBack(intent.after.model, intent.bad, intent.good, since, commit)


def _after(workspace: Workspace, serving: ServingEnvironment, slots: Slots, wanted: str | None) -> Slots:
    """`slots` with the release to go back to in the other slot, and stable."""
    assert slots.stable is not None
    target = slots.stable.other
    there = slots.releases.get(target)
    if wanted is None and there is None:
        raise NotFound(
            f"{slots.model} has no earlier release in the other slot of {slots.environment}. "
            f"Name one: coalmine rollback {slots.model} --to VERSION"
        )
    if there is not None and wanted in (None, there.version):
        return slots.with_stable(target)
    assert wanted is not None
    found = release(workspace.repository, slots.model, wanted)
    return slots.with_release(target, *serving.contents(found)).with_stable(target)


# --- a rollout that is under way -------------------------------------------------------


def _abort(
    workspace: Workspace,
    serving: ServingEnvironment,
    slots: Slots,
    wanted: str,
    trigger: Trigger,
    tell: Tell,
    within_s: float,
) -> datetime:
    """The rollout's users are back on stable; when they were.

    Where the way ends there, its record is its runner's to make; where it goes on, it is waited for.
    """
    folder = unfinished_rollout(workspace, serving, slots)
    driven = steer(workspace, slots.model, serving.name, Ask.ABORT, trigger, tell)
    assert slots.stable_release is not None
    is_far_enough = slots.stable_release.version == wanted
    deadline = time.monotonic() + within_s
    while driven is None and folder is not None:
        serving.rollouts.refresh(slots.model)
        if journal.has_ended(folder):
            break
        if is_far_enough and _is_back(workspace, serving, slots, folder):
            break
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The rollout of {slots.model} was told to abort and has not ended. Look: coalmine status"
            )
        time.sleep(_LOOK_EVERY_S)
    return datetime.now(UTC)


def _is_back(workspace: Workspace, serving: ServingEnvironment, slots: Slots, folder: Path) -> bool:
    """Whether the rollout is going back, and the route shows everybody on stable."""
    saved = serving.rollouts.journal(folder).load()
    if saved is None or RolloutState.from_json(saved["state"]).phase is not Phase.ROLLING_BACK:
        return False
    assert slots.stable is not None
    router = serving.adapters(load_model_spec(workspace.top, slots.model)).router
    return router.observed_split() == TrafficSplit.all_to(slots.stable)


def _closing(workspace: Workspace, serving: ServingEnvironment, slots: Slots) -> str | None:
    folders = serving.rollouts.folders(slots.model)
    closed = closing_commit(workspace.repository, journal.read_about(folders[-1])) if folders else None
    return None if closed is None else closed.sha
