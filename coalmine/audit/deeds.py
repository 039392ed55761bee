"""What was done to a model, as one commit of the record says it: which deed, to what, where, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from coalmine.audit.attribution import from_trailer, is_of
from coalmine.manifest import Trigger
from coalmine.registry.repository import Commit


class Action(StrEnum):
    """What a commit says was done; the value of its `Decision` trailer."""

    RELEASE = "release"
    KEEP = "keep"  # the champion stays
    CANDIDATE = "candidate"  # handed over: its rollout begins
    PROMOTED = "promoted"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled-back"  # by a person, after the rollout had ended
    UNRECORDED = "unrecorded"  # another release was made stable, and no trailer says why
    ASKED = "asked"  # of a running rollout: to pause, to approve, to abort, to promote early


@dataclass(frozen=True)
class Deed:
    """One line of a record. sentence: the commit's subject, or what the rollout wrote of it.

    version: None of a deed by hand that left nobody served. commit: where the record of it lies.
    """

    at: datetime
    action: Action
    model: str
    version: str | None
    environment: str | None
    who: Trigger
    rollout: str | None
    commit: str
    sentence: str


def recorded_deed(commit: Commit) -> Deed | None:
    """None: the commit's trailers say of no deed."""
    trailers = commit.trailers
    try:
        action = Action(trailers["Decision"])
        model = trailers["Model"]
    except (KeyError, ValueError):
        return None
    return Deed(
        at=commit.at,
        action=action,
        model=model,
        version=trailers.get("Version"),
        environment=trailers.get("Environment"),
        who=who_of(commit),
        rollout=trailers.get("Rollout"),
        commit=commit.sha,
        sentence=commit.subject,
    )


def who_of(commit: Commit) -> Trigger:
    """Who the commit says asked; its author, where it says nothing.

    The proof is a signature only where that person's own was checked: what the commit itself says of it
    proves nothing.
    """
    said = from_trailer(commit.trailers.get("Triggered-By", "")) or Trigger(
        kind="person", who=commit.author, proof="claimed"
    )
    if commit.signer is not None and is_of(commit.signer, said.who):
        return said.model_copy(update={"proof": "signature"})
    return said.model_copy(update={"proof": "claimed"}) if said.proof == "signature" else said
