"""Back to an older release, at rest: the route first, in seconds, then the record.

Where the other slot holds the release, that needs no Git. Another one is put there first, by a commit that
moves nobody.

During a rollout, going back is aborting it (`steer`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from coalmine.audit.attribution import to_trailer
from coalmine.durable import replace_text
from coalmine.errors import Conflict, NotFound, PushRejected, RemoteUnavailable, ServerUnavailable
from coalmine.manifest import Trigger
from coalmine.operations.champion import release
from coalmine.operations.environments import open_environment
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.steps import Step, Steps, directly
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import Change, Tag, publish
from coalmine.registry.tags import assignment_tag, assignments
from coalmine.rollout.ports import Reconciler, SlotHealth, TrafficSplit
from coalmine.slots import Slot, Slots, dump_slots, slots_path
from coalmine.spec import load_model_spec


@dataclass(frozen=True)
class RolledBack:
    model: str
    before: str
    now: str
    seconds_to_route: float  # from the call until the users were on `now`


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
    to: a version; default: the one in the other slot, which is a matter of a weight.

    Raises:
        NotFound: nothing serves, or there is no such release.
        Conflict: a rollout is under way.
        RemoteUnavailable: the users are back, but the record waits: run again to finish.
    """
    started = time.monotonic()
    spec = load_model_spec(workspace.top, model)
    serving = open_environment(workspace, environment)
    workspace.require_record()
    with suppress(RemoteUnavailable, PushRejected):  # to go back waits for no Git remote
        serving.rollouts.catch_up()
    slots = serving.slots(model)
    if slots.stable is None or slots.stable_release is None:
        raise NotFound(f"{model} serves nobody in {environment}: there is nothing to go back from")
    if slots.candidate is not None:
        raise Conflict(
            f"A rollout of {model} is under way in {environment}. Bring it back: coalmine abort {model}"
        )
    before = slots.stable_release.version
    target = slots.stable.other
    filled = _with_target(workspace, serving, slots, target, to)
    now = filled.releases[target].version
    serving.up()
    chosen = serving.adapters(spec)

    git = workspace.settings.git
    if filled != slots:
        publish(workspace.repository, _put(workspace, filled, target, trigger), git.remote, git.branch)

    def move() -> float:
        if filled != slots:
            chosen.reconciler.reconcile(filled)
        _await_ready(chosen.reconciler, target, spec.rollout.progress_deadline_s)
        chosen.router.set_split(TrafficSplit.all_to(target))
        return time.monotonic() - started

    seconds = steps(Step.ROLL_BACK, move)
    tell(f"{model}: everybody is back on {now} after {seconds:.1f} s.")
    after = filled.with_stable(target)
    change = _change(workspace, after, before, trigger)
    try:
        steps(Step.RECORD, lambda: publish(workspace.repository, change, git.remote, git.branch))
    except RemoteUnavailable as error:
        raise RemoteUnavailable(f"The users are on {now}, but the record waits: {error}") from error
    chosen.reconciler.reconcile(after)
    chosen.router.give_back()
    return RolledBack(model, before, now, seconds)


def _with_target(
    workspace: Workspace,
    serving: ServingEnvironment,
    slots: Slots,
    target: Slot,
    to: str | None,
) -> Slots:
    """`slots` with the release to go back to in `target`."""
    there = slots.releases.get(target)
    if to is None and there is None:
        raise NotFound(
            f"{slots.model} has no earlier release in the other slot of {slots.environment}. "
            f"Name one: coalmine rollback {slots.model} --to VERSION"
        )
    if there is not None and to in (None, there.version):
        return slots
    assert to is not None
    found = release(workspace.repository, slots.model, to.removeprefix("v"))
    return slots.with_release(target, *serving.contents(found))


def _await_ready(reconciler: Reconciler, slot: Slot, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while (status := reconciler.status(slot)).health is not SlotHealth.READY:
        if status.health is SlotHealth.FAILED or time.monotonic() > deadline:
            raise ServerUnavailable(f"The older release does not start, so the users stay: {status.detail}")
        time.sleep(0.05)


def _put(workspace: Workspace, filled: Slots, slot: Slot, trigger: Trigger) -> Change:
    path = slots_path(filled.environment, filled.model)
    replace_text(workspace.top / path, dump_slots(filled))
    release = filled.releases[slot]
    subject = f"Put {filled.model} {release.version} into {slot} of {filled.environment}"
    trailers = {
        "Model": filled.model,
        "Version": release.version,
        "Environment": filled.environment,
        "Digest": release.model_digest,
        "Triggered-By": to_trailer(trigger),
    }
    return Change((path,), subject, "To go back to.", trailers)


def _change(workspace: Workspace, after: Slots, before: str, trigger: Trigger) -> Change:
    path = slots_path(after.environment, after.model)
    replace_text(workspace.top / path, dump_slots(after))
    serves = after.stable_release
    assert serves is not None
    number = max(assignments(workspace.repository, after.model, after.environment), default=0) + 1
    subject = f"Roll {after.model} back to {serves.version} in {after.environment}"
    trailers: Mapping[str, str] = {
        "Model": after.model,
        "Version": serves.version,
        "Environment": after.environment,
        "Digest": serves.model_digest,
        "Decision": "rolled-back",
        "Rolled-Back": before,
        "Triggered-By": to_trailer(trigger),
    }
    tag = Tag(assignment_tag(after.model, after.environment, number), subject, serves.commit)
    return Change((path,), subject, f"{before} served before.", trailers, (tag,))
