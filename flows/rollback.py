"""Take the users of a model back to an older release: the route first, then the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import State, flow

from coalmine.operations.rollback import roll_back
from coalmine.operations.workspace import Workspace
from flows.conclusion import conclude
from flows.tasks import tasks_about, tell
from flows.trigger import trigger


@flow(name="rollback", flow_run_name="roll back {model} in {environment}")
def rollback(model: str, environment: str = "local", to: str = "", asked_by: str = "") -> State[Any]:
    """Users first, record second.

    Args:
        model: A model: a folder of models/
        environment: An environment of coalmine.yaml
        to: A release, such as 1.2.0; empty for the one in the other slot, at once
        asked_by: Your name, for the record; a schedule leaves it empty
    """
    return conclude(
        lambda: roll_back(
            Workspace.open(Path.cwd()),
            model,
            environment,
            trigger(asked_by),
            tell,
            to=to or None,
            steps=tasks_about(model),
        )
    )
