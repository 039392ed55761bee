"""Look for models that are due, and start a retraining of each: a flow run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from coalmine.errors import MachineUnready
from coalmine.operations.due import Due, DueModels, due
from coalmine.operations.ingest import NewData
from coalmine.operations.workspace import Workspace
from flows.conclusion import conclude
from flows.tasks import tell


@flow(name="retrain-due")
def retrain_due(
    models: list[str] | None = None, environment: str = "local", deliver: bool = False
) -> State[Any]:
    """Retrain the models that are due by `retrain` of their model.yaml. One cause retrains once.

    Args:
        models: Folders of models/; empty for all
        environment: An environment of coalmine.yaml, whose stable releases are watched
        deliver: Deliver what is released
    """

    def act() -> DueModels:
        found = due(Workspace.open(Path.cwd()), models or (), environment)
        for each in found.models:
            for note in each.notes:
                tell(f"{each.model}: {note}")
            if each.causes:
                _start(each, "retrain-and-deliver" if deliver else "retrain")
        return found

    return conclude(act)


def _start(model: Due, flow_name: str) -> None:
    """A run that Prefect makes once for each cause, however often it is asked for: what failed waits for a
    person, who runs it again from the UI.

    Raises:
        MachineUnready: Prefect does not know the flow.
    """
    cause = model.causes[0]
    # What changed in Git is here; what users show asks for rows that the model has not learnt from.
    data = NewData.NONE if cause.kind == "change" else NewData.ALL
    try:
        run_deployment(
            f"{flow_name}/{flow_name}",
            parameters={"model": model.model, "data": data.value, "cause": cause.model_dump(mode="json")},
            idempotency_key=f"{flow_name} {model.model} {cause.key}",
            timeout=0,  # the runs go on by themselves
            as_subflow=False,
        )
    except ObjectNotFound as error:
        raise MachineUnready(
            f"Prefect has no deployment {flow_name}/{flow_name}, which retrains. Deploy those of "
            "prefect.yaml: coalmine up"
        ) from error
    tell(f"{model.model} is due: {cause.because}")
