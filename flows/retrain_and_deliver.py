"""The nightly job: retrain a model and, when a release came of it, deliver it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import State, flow

from coalmine.operations.deliver import Delivered, deliver
from coalmine.operations.ingest import NewData
from coalmine.operations.record import Recorded
from coalmine.operations.retrain import retrain
from coalmine.operations.workspace import Workspace
from coalmine.triggers.cause import Cause
from flows.after_crash import finish_rollout
from flows.conclusion import conclude
from flows.rollout_page import rollout_page
from flows.tasks import tasks_about, tell
from flows.trigger import trigger


@flow(name="retrain-and-deliver", flow_run_name="retrain and deliver {model}", on_crashed=[finish_rollout])
def retrain_and_deliver(
    model: str,
    data: NewData = NewData.NONE,
    partitions: list[str] | None = None,
    environment: str = "local",
    asked_by: str = "",
    cause: Cause | None = None,
) -> State[Any]:
    """Retrain; deliver what was released. A kept champion ends the run well, with nothing to deliver.

    Args:
        model: A model: a folder of models/
        data: What to ingest first: nothing, the next partition that is new, or all that are new
        partitions: Ingest these partitions instead, such as 2013-04
        environment: An environment of coalmine.yaml
        asked_by: Your name, for the record; a schedule leaves it empty
        cause: What made the model due; the flow retrain-due fills it in
    """

    def act() -> Recorded | Delivered:
        workspace, who, steps = Workspace.open(Path.cwd()), trigger(asked_by, cause), tasks_about(model)
        recorded = retrain(workspace, model, who, tell, data=partitions or data, steps=steps)
        if recorded.version is None:
            tell("The champion stays: nothing to deliver.")
            return recorded
        with rollout_page(workspace, environment, model):
            return deliver(workspace, model, environment, who, tell, version=recorded.version, steps=steps)

    return conclude(act)
