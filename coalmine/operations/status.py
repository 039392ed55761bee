"""What serves where, now: what Git says, what the route shows, and what a rollout is doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from coalmine.audit.situation import NextStep, Situation, next_steps, standing
from coalmine.errors import Conflict, Unavailable
from coalmine.journals import journal
from coalmine.notifications.sent import undelivered
from coalmine.operations.eligible import next_in_words
from coalmine.operations.environments import open_environment
from coalmine.operations.going_back import intended
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.unfinished import unfinished_rollout
from coalmine.operations.workspace import Workspace
from coalmine.rollout.events import Event
from coalmine.slots import Slot, Slots
from coalmine.spec import load_model_spec, model_names


@dataclass(frozen=True)
class RolloutStatus:
    """
    situation: whether it goes on, or what keeps it; waits_for: for what, in the rollout's own words.
    next: what a person may type, the likeliest first.
    """

    rollout: str
    candidate: str
    weight_percent: int
    newest: Event | None
    runner_alive: bool
    situation: Situation
    waits_for: str
    next: tuple[NextStep, ...]


@dataclass(frozen=True)
class ModelStatus:
    """weights: version to percent of the users, as the route shows; None when it cannot be read, and
    `trouble` says why. undelivered: notices of the newest rollout that somebody should have got and did not.
    rollback_waits: a rollback that was begun on this machine and is not recorded yet, in words for people.
    next_release: what may go to an environment with rules now, and why nothing newer, in words for people.
    """

    environment: str
    model: str
    stable: str | None
    candidate: str | None
    ready_to_go_back_to: str | None
    weights: dict[str, int] | None
    servers: dict[str, str]
    rollout: RolloutStatus | None
    trouble: str | None
    undelivered: tuple[str, ...] = ()
    rollback_waits: str | None = None
    next_release: str | None = None


def status(workspace: Workspace, environment: str) -> list[ModelStatus]:
    """Every model of the repository in `environment`; starts and changes nothing."""
    serving = open_environment(workspace, environment)
    return [_model_status(workspace, serving, model) for model in model_names(workspace.top)]


def _model_status(workspace: Workspace, serving: ServingEnvironment, model: str) -> ModelStatus:
    slots = serving.slots(model)
    versions = {slot: release.version for slot, release in slots.releases.items()}
    weights, trouble = None, None
    if slots.releases:
        weights, trouble = _weights(workspace, serving, model, versions)
    back = None if slots.stable is None else slots.releases.get(slots.stable.other)
    return ModelStatus(
        environment=serving.name,
        model=model,
        stable=None if slots.stable_release is None else slots.stable_release.version,
        candidate=None if slots.candidate_release is None else slots.candidate_release.version,
        ready_to_go_back_to=back.version if back is not None and slots.candidate is None else None,
        weights=weights,
        servers=_servers(serving, model),
        rollout=_rollout(workspace, serving, slots),
        trouble=trouble,
        undelivered=_undelivered(serving, model),
        rollback_waits=_rollback_waits(workspace, serving, model),
        next_release=next_in_words(workspace, serving.name, model),
    )


def _rollback_waits(workspace: Workspace, serving: ServingEnvironment, model: str) -> str | None:
    intent = intended(workspace.top, serving.name, model)
    if intent is None:
        return None
    moved = "" if intent.moved_at_s is None else f", whose users were moved {_moment(intent.moved_at_s)},"
    return (
        f"the rollback from {intent.bad} to {intent.good}{moved} is not recorded yet. To finish it: "
        f"coalmine rollback {model} --environment {serving.name}"
    )


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _undelivered(serving: ServingEnvironment, model: str) -> tuple[str, ...]:
    folders = serving.rollouts.folders(model)
    try:
        return tuple(undelivered(serving.rollouts.notices(folders[-1]).read())) if folders else ()
    except Unavailable:
        return ()  # `trouble` has the words


def _weights(
    workspace: Workspace, serving: ServingEnvironment, model: str, versions: dict[Slot, str]
) -> tuple[dict[str, int] | None, str | None]:
    if (down := serving.trouble()) is not None:
        return None, down
    try:
        split = serving.adapters(load_model_spec(workspace.top, model)).router.observed_split()
    except (Unavailable, Conflict) as error:
        return None, str(error)
    if split is None:
        return None, "no route yet"
    return {
        versions.get(slot, f"({slot}, empty)"): weight for slot, weight in split.weights.items() if weight
    }, None


def _servers(serving: ServingEnvironment, model: str) -> dict[str, str]:
    try:
        return dict(serving.servers(model))
    except (Unavailable, Conflict):
        return {}  # `trouble` has the words


def _rollout(workspace: Workspace, serving: ServingEnvironment, slots: Slots) -> RolloutStatus | None:
    try:
        folder = unfinished_rollout(workspace, serving, slots)
        if folder is None:
            return None
        is_driven = serving.rollouts.is_driven(folder)
    except Unavailable:
        return None  # `trouble` has the words
    events = journal.read_events(folder)
    newest = events[-1] if events else None
    about, stands = journal.read_about(folder), standing(events)
    return RolloutStatus(
        folder.name,
        about.candidate,
        newest.weight_percent if newest else 0,
        newest,
        is_driven,
        stands.situation,
        stands.sentence,
        next_steps(about, stands.situation),
    )
