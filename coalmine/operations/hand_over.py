"""A release into the candidate slot, by one commit: from there on the reconciler starts it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from coalmine.audit.attribution import from_trailer, to_trailer
from coalmine.durable import replace_text
from coalmine.errors import AlreadyRunning
from coalmine.journals import journal
from coalmine.journals.about import About, rollout_id
from coalmine.manifest import Trigger
from coalmine.operations.champion import Release
from coalmine.operations.choose import Override, require_admitted
from coalmine.operations.eligible import rules_of
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry.commits import Change
from coalmine.slots import Slots, dump_slots, slots_path
from coalmine.spec import ModelSpec

_OTHERS_WITHIN_S = 120.0  # each is a push


def new_rollout(
    workspace: Workspace, spec: ModelSpec, slots: Slots, wanted: Release, trigger: Trigger
) -> About:
    """Where an earlier call proposed the candidate and nobody has merged it yet, that call's rollout."""
    version = wanted.manifest.version
    candidate = {"Version": version, "Decision": "candidate", "Digest": wanted.manifest.digest}
    proposed = workspace.awaiting_review(_review_name(slots), candidate)
    asked = None if proposed is None else from_trailer(proposed.trailers["Triggered-By"])
    return About(
        id=rollout_id(version, time.time()) if proposed is None else proposed.trailers["Rollout"],
        environment=slots.environment,
        model=slots.model,
        candidate=version,
        stable=None if slots.stable_release is None else slots.stable_release.version,
        stages=spec.rollout.stages,
        triggered_by=asked or trigger,
    )


def hand_over(
    workspace: Workspace,
    serving: ServingEnvironment,
    slots: Slots,
    wanted: Release,
    about: About,
    despite: str,
    tell: Tell,
) -> Slots:
    """The candidate in its slot, in Git."""
    who = about.triggered_by.who
    with workspace.alone(f"hand over {about.model}", who), _in_turn(workspace, serving, who):
        if serving.slots(about.model) != slots:
            raise AlreadyRunning(
                f"Another delivery of {about.model} to {about.environment} began at the same moment. "
                "Look: coalmine status"
            )
        # Again: another model may have taken the day's last place meanwhile.
        override = require_admitted(workspace, about.environment, wanted, despite)
        handed_over = _put_into_slot(workspace, serving, slots, wanted, about, override, tell)
    tell(f"{about.model} {about.candidate} is in the {handed_over.candidate} slot of {about.environment}.")
    return handed_over


def _in_turn(workspace: Workspace, serving: ServingEnvironment, who: str) -> AbstractContextManager[None]:
    """One hand-over at a time to an environment that counts them."""
    if rules_of(workspace, serving.name).releases_per_day is None:
        return nullcontext()
    return workspace.alone(f"hand over to {serving.name}", who, _OTHERS_WITHIN_S)


def _put_into_slot(
    workspace: Workspace,
    serving: ServingEnvironment,
    slots: Slots,
    wanted: Release,
    about: About,
    override: Override | None,
    tell: Tell,
) -> Slots:
    handed_over = slots.with_candidate(*serving.contents(wanted))
    journal.begin(workspace.top, about)
    path = slots_path(about.environment, about.model)
    (workspace.top / path).parent.mkdir(parents=True, exist_ok=True)
    replace_text(workspace.top / path, dump_slots(handed_over))
    assert handed_over.candidate is not None
    subject = f"Put {about.model} {about.candidate} into {handed_over.candidate} of {about.environment}"
    change = Change(
        paths=(path,),
        subject=subject if override is None else f"{subject} despite its rules: {override.reason}",
        body="" if override is None else f"The rules of {about.environment} refused it: {override.refused}.",
        trailers={
            "Model": about.model,
            "Version": about.candidate,
            "Environment": about.environment,
            "Digest": wanted.manifest.digest,
            "Decision": "candidate",
            "Rollout": about.id,
            "Triggered-By": to_trailer(about.triggered_by),
            **({} if override is None else {"Despite": override.reason}),
        },
    )
    workspace.publish(change, _review_name(slots), tell)
    return handed_over


def _review_name(slots: Slots) -> str:
    """Of the branch by which a candidate is reviewed: one at a time of each model and environment."""
    return f"{slots.model}/to-{slots.environment}"
