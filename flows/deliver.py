"""Deliver a release: candidate slot, staged rollout behind its gates, promotion or the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import State, flow

from coalmine.operations.deliver import Delivered
from coalmine.operations.deliver import deliver as run
from coalmine.operations.workspace import Workspace
from flows.after_crash import finish_rollout
from flows.conclusion import conclude
from flows.rollout_page import rollout_page
from flows.tasks import tasks_about, tell
from flows.trigger import trigger


@flow(name="deliver", flow_run_name="deliver {model} to {environment}", on_crashed=[finish_rollout])
def deliver(
    model: str,
    environment: str = "local",
    version: str = "",
    retry: bool = False,
    despite: str = "",
    asked_by: str = "",
) -> State[Any]:
    """Put a release in front of the users, step by step. Cancelling brings them back to stable.

    Args:
        model: A model: a folder of models/
        environment: An environment of coalmine.yaml
        version: A release, such as 1.2.0; empty for the newest that may go there
        retry: Roll out again what was turned away here before
        despite: Why it goes although the environment's rules refuse it, for the record; empty otherwise
        asked_by: Your name, for the record; a schedule leaves it empty
    """

    def act() -> Delivered:
        workspace = Workspace.open(Path.cwd())
        with rollout_page(workspace, environment, model):
            return run(
                workspace,
                model,
                environment,
                trigger(asked_by),
                tell,
                version=version or None,
                retry=retry,
                despite=despite,
                steps=tasks_about(model),
            )

    return conclude(act)
