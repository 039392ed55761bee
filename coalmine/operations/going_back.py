"""A rollback, written down before it is carried out: a kill between any two writes loses nothing of it.

    intend   what is to serve, on this machine's disk
    move     the older release is made ready, and the users are moved: waits for no Git remote
    record   one commit, pushed
    forget   the intent

Whoever delivers or rolls back finds an intent that is left, and goes on with it; whoever starts the
environment starts what it says. The slots in Git would take the users to the release that they were
saved from.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from coalmine.audit.attribution import to_trailer
from coalmine.durable import replace_text
from coalmine.errors import CoalmineError, IntegrityError, PushRejected, RemoteUnavailable, ServerUnavailable
from coalmine.manifest import Trigger
from coalmine.operations.at_rest import leave_at_rest
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.steps import Step, Steps, directly
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import Change, Tag, publish
from coalmine.registry.tags import assignment_tag
from coalmine.rollout.ports import Reconciler, SlotHealth, TrafficRouter, TrafficSplit
from coalmine.settings import STATE
from coalmine.slots import Slot, Slots, dump_slots, slots_path
from coalmine.spec import load_model_spec
from coalmine.wiring import Adapters


class Intent(BaseModel):
    """before, after: the slots as Git has them, and as they are to be. assignment: the number of the tag.
    moved_at_s: when the users were on the older release, in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Slots
    after: Slots
    assignment: int
    triggered_by: Trigger
    moved_at_s: float | None = None

    @property
    def bad(self) -> str:
        """The version that the users are taken from."""
        assert self.before.stable_release is not None
        return self.before.stable_release.version

    @property
    def good(self) -> str:
        """The version that they are taken to."""
        assert self.after.stable_release is not None
        return self.after.stable_release.version


# --- on this machine's disk ------------------------------------------------------------


def _path(top: Path, environment: str, model: str) -> Path:
    return top / STATE / "rollouts" / environment / model / "rollback.json"


def intended(top: Path, environment: str, model: str) -> Intent | None:
    """The rollback of `model` that was begun on this machine and is not recorded yet.

    Raises:
        IntegrityError: the file was edited or damaged.
    """
    path = _path(top, environment, model)
    try:
        return Intent.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise IntegrityError(
            f"{path} is written by coalmine when a rollback begins and cannot be read: {error}. Delete it, "
            f"and roll back again: coalmine rollback {model} --environment {environment} --to VERSION"
        ) from error


def intend(top: Path, intent: Intent) -> None:
    path = _path(top, intent.after.environment, intent.after.model)
    replace_text(path, intent.model_dump_json(indent=1) + "\n")


def _forget(top: Path, intent: Intent) -> None:
    _path(top, intent.after.environment, intent.after.model).unlink(missing_ok=True)


# --- carried out -----------------------------------------------------------------------


def finish(
    workspace: Workspace, serving: ServingEnvironment, model: str, tell: Tell, steps: Steps = directly
) -> tuple[Intent, str] | None:
    """Go on with the rollback that is left, if one is; the rollback, and its commit.

    Raises:
        CoalmineError: as `carry_out`.
    """
    intent = intended(workspace.top, serving.name, model)
    if intent is None:
        return None
    if serving.slots(model).stable_release not in (
        intent.before.stable_release,
        intent.after.stable_release,
    ):
        tell(f"{model} serves another release since: the rollback to {intent.good} is not gone on with.")
        _forget(workspace.top, intent)
        return None
    tell(f"The rollback of {model} from {intent.bad} to {intent.good} is unfinished: it goes on.")
    return carry_out(workspace, serving, intent, tell, steps)


def carry_out(
    workspace: Workspace, serving: ServingEnvironment, intent: Intent, tell: Tell, steps: Steps = directly
) -> tuple[Intent, str]:
    """Move the users, then record it; the rollback, with when they were moved, and its commit.

    Raises:
        ServerUnavailable: the older release does not start; the users stay, and the intent is forgotten.
        CoalmineError: before the users moved, what was in the way; or the users are back and the record
            waits: run again to finish.
    """
    serving.up()
    model = intent.after.model
    chosen = serving.adapters(load_model_spec(workspace.top, model))
    moved = steps(Step.ROLL_BACK, lambda: _move(workspace, serving, chosen, intent))
    tell(f"{model}: everybody is on {moved.good} again. Recording it; if that hangs, Ctrl-C loses nothing.")
    try:
        commit = steps(Step.RECORD, lambda: _record(workspace, moved))
    except CoalmineError as error:
        raise type(error)(
            f"The users are on {moved.good}, but the record waits: {error}. To finish it: "
            f"coalmine rollback {model} --environment {serving.name}"
        ) from error
    leave_at_rest(serving, chosen, model)
    _forget(workspace.top, moved)
    return moved, commit


def _move(workspace: Workspace, serving: ServingEnvironment, chosen: Adapters, intent: Intent) -> Intent:
    slot = intent.after.stable
    assert slot is not None
    filled = intent.after.model_copy(update={"stable": intent.before.stable})
    try:
        if filled != intent.before:
            if serving.settings.reconciler != "processes":  # pods are started from what Git holds
                _put(workspace, intent, filled, slot)
            chosen.reconciler.reconcile(filled)
        _await_ready(chosen.reconciler, slot, _deadline_s(workspace, intent))
    except CoalmineError:
        if not _may_be_there(chosen.router, slot):
            _forget(workspace.top, intent)
            with suppress(CoalmineError):
                chosen.reconciler.reconcile(serving.slots(intent.after.model))
        raise
    chosen.router.set_split(TrafficSplit.all_to(slot))
    moved = intent.model_copy(update={"moved_at_s": intent.moved_at_s or time.time()})
    intend(workspace.top, moved)
    return moved


def _may_be_there(router: TrafficRouter, slot: Slot) -> bool:
    """Whether an earlier call moved the users to `slot`, as far as can be seen."""
    try:
        return router.observed_split() == TrafficSplit.all_to(slot)
    except CoalmineError:
        return True


def _deadline_s(workspace: Workspace, intent: Intent) -> float:
    return load_model_spec(workspace.top, intent.after.model).rollout.progress_deadline_s


def _await_ready(reconciler: Reconciler, slot: Slot, within_s: float) -> None:
    """Ready: the bytes are what the manifest says, and the model has answered the manifest's example."""
    deadline = time.monotonic() + within_s
    while (status := reconciler.status(slot)).health is not SlotHealth.READY:
        if status.health is SlotHealth.FAILED or time.monotonic() > deadline:
            raise ServerUnavailable(f"The older release does not start, so the users stay: {status.detail}")
        time.sleep(0.05)


# --- in Git ----------------------------------------------------------------------------


def _put(workspace: Workspace, intent: Intent, filled: Slots, slot: Slot) -> None:
    """The older release in its slot, by a commit that moves nobody."""
    workspace.require_signing()
    subject = f"Put {filled.model} {intent.good} into {slot} of {filled.environment}"
    change = Change((_written(workspace, filled),), subject, "To go back to.", _trailers(intent))
    git = workspace.settings.git
    with suppress(RemoteUnavailable, PushRejected):  # whoever needs the remote says so
        publish(workspace.repository, change, git.remote, git.branch)


def _record(workspace: Workspace, intent: Intent) -> str:
    workspace.require_signing()
    after, serves = intent.after, intent.after.stable_release
    assert serves is not None
    subject = f"Roll {after.model} back to {serves.version} in {after.environment}"
    trailers = {**_trailers(intent), "Decision": "rolled-back", "Rolled-Back": intent.bad}
    tag = Tag(assignment_tag(after.model, after.environment, intent.assignment), subject, serves.commit)
    path = _written(workspace, after)
    change = Change((path,), subject, f"{intent.bad} served before.", trailers, (tag,))
    git = workspace.settings.git
    return publish(workspace.repository, change, git.remote, git.branch)


def _trailers(intent: Intent) -> dict[str, str]:
    after, serves = intent.after, intent.after.stable_release
    assert serves is not None
    return {
        "Model": after.model,
        "Version": serves.version,
        "Environment": after.environment,
        "Digest": serves.model_digest,
        "Triggered-By": to_trailer(intent.triggered_by),
    }


def _written(workspace: Workspace, slots: Slots) -> Path:
    path = slots_path(slots.environment, slots.model)
    replace_text(workspace.top / path, dump_slots(slots))
    return path
