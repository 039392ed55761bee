"""Who or what started this flow run, for the record."""

from __future__ import annotations

from prefect import runtime

from coalmine.manifest import Trigger
from coalmine.triggers.cause import Cause

SCHEDULED = "auto-scheduled"  # Prefect's tag on the runs that a schedule makes


def trigger(asked_by: str, cause: Cause | None = None) -> Trigger:
    """
    asked_by: the name typed in the Prefect UI, which has no users: claimed, not proven.
    cause: what made the model due, where that started the run.
    """
    run = runtime.flow_run.id
    if asked_by:
        return Trigger(kind="person", who=asked_by, proof="claimed", run=run)
    if cause is not None:
        return cause.trigger(run)
    deployment = runtime.deployment.name
    if SCHEDULED in runtime.flow_run.tags:
        return Trigger(kind="schedule", who=deployment, run=run)
    who = f"Prefect deployment {deployment}" if deployment else f"Prefect flow {runtime.flow_run.flow_name}"
    return Trigger(kind="automation", who=who, run=run)
