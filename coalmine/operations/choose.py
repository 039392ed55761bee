"""Which release a delivery brings, and whether it may begin: the environment takes it, it was not turned away
there before, and it is signed where that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from coalmine.errors import InputError, NotFound
from coalmine.journals import journal
from coalmine.operations.champion import Release, newest, release, turned_away
from coalmine.operations.eligible import newest_eligible, refused_by_rules, refused_error, rules_of
from coalmine.operations.serving_environment import ServingEnvironment
from coalmine.operations.signatures import require_signed
from coalmine.operations.unfinished import unfinished_rollout
from coalmine.operations.workspace import Tell, Workspace
from coalmine.slots import SlotRelease, Slots


@dataclass(frozen=True)
class Override:
    """Why a release goes although its environment's rules refuse it, and why they do."""

    reason: str
    refused: str


def choose(
    workspace: Workspace,
    serving: ServingEnvironment,
    slots: Slots,
    version: str | None,
    tell: Tell,
    *,
    retry: bool,
    despite: str,
) -> Release:
    """
    version, retry, despite: as `deliver` has them.

    Raises:
        NotFound, InputError, NotYetAdmitted, IntegrityError: as `deliver`.
    """
    model, environment = slots.model, slots.environment
    wanted = _wanted(workspace, model, version)
    at_hand = _at_hand(workspace, serving, slots)
    if version is None and not despite:
        wanted = _newest_that_may_go(workspace, slots, at_hand, wanted, tell, retry=retry)
    if wanted.manifest.version not in at_hand:
        if not retry:
            _refuse_rejected(workspace, slots, wanted)
        require_admitted(workspace, environment, wanted, despite)
    require_signed(workspace, environment, [(model, wanted.manifest.version, wanted.commit)])
    return wanted


def _wanted(workspace: Workspace, model: str, version: str | None) -> Release:
    if version is not None:
        return release(workspace.repository, model, version.removeprefix("v"))
    found = newest(workspace.repository, model)
    if found is None:
        raise NotFound(f"{model} has no release yet. Make one: coalmine retrain {model}")
    return found


def _at_hand(workspace: Workspace, serving: ServingEnvironment, slots: Slots) -> list[str]:
    """Versions that a delivery brings nothing new of: what serves, and what is under way and just goes on."""
    under_way = unfinished_rollout(workspace, serving, slots)
    versions = [slot.version for slot in (slots.stable_release, slots.candidate_release) if slot is not None]
    return versions if under_way is None else [*versions, journal.read_about(under_way).candidate]


def _newest_that_may_go(
    workspace: Workspace, slots: Slots, at_hand: list[str], newest: Release, tell: Tell, *, retry: bool
) -> Release:
    """`newest` where the environment has no rules; what is under way, where they let nothing newer begin."""
    rules = rules_of(workspace, slots.environment)
    if newest.manifest.version in at_hand or not rules.asks_for_something:
        return newest
    found = newest_eligible(workspace, slots, retry=retry)
    under_way = [version for version in at_hand if version != _version(slots.stable_release)]
    version = found.version or next(iter(under_way), None)
    if version is None:
        raise refused_error(found)
    if found.refused:
        tell(f"{slots.model} in {slots.environment}: {found.sentence}.")
    return release(workspace.repository, slots.model, version)


def _version(slot: SlotRelease | None) -> str | None:
    return None if slot is None else slot.version


def _refuse_rejected(workspace: Workspace, slots: Slots, wanted: Release) -> None:
    """A release that was turned away is rolled out again only on purpose."""
    model, version, environment = slots.model, wanted.manifest.version, slots.environment
    rejected = turned_away(workspace.repository, model, environment).get(version)
    if rejected is not None:
        raise InputError(
            f"{model} {version} was turned away in {environment} on {rejected.at:%Y-%m-%d %H:%M} "
            f"(commit {rejected.sha[:12]}). Release a better one, or roll it out again on purpose: "
            f"coalmine deliver {model} --version {version} --retry"
        )


def require_admitted(
    workspace: Workspace, environment: str, wanted: Release, despite: str
) -> Override | None:
    """None: the rules of the environment let it begin. despite: why it does where they do not; "": no reason.

    Raises:
        InputError, NotYetAdmitted: they do not, and nobody said why it should all the same.
    """
    found = refused_by_rules(workspace, environment, wanted)
    if found is None:
        return None
    if not despite:
        raise refused_error(found)
    return Override(despite, found.refused[0].reason)
