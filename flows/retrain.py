"""Retrain a model: new data in, model trained, release decided, decision recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import State, flow

from coalmine.operations.ingest import NewData
from coalmine.operations.retrain import retrain as run
from coalmine.operations.workspace import Workspace
from coalmine.triggers.cause import Cause
from flows.conclusion import conclude
from flows.tasks import tasks_about, tell
from flows.trigger import trigger


@flow(name="retrain", flow_run_name="retrain {model}")
def retrain(
    model: str,
    data: NewData = NewData.NONE,
    partitions: list[str] | None = None,
    asked_by: str = "",
    cause: Cause | None = None,
) -> State[Any]:
    """Train a challenger, compare it with the champion, and record the release, or why the champion stays.

    Args:
        model: A model: a folder of models/
        data: What to ingest first: nothing, the next partition that is new, or all that are new
        partitions: Ingest these partitions instead, such as 2013-04
        asked_by: Your name, for the record; a schedule leaves it empty
        cause: What made the model due; the flow retrain-due fills it in
    """
    return conclude(
        lambda: run(
            Workspace.open(Path.cwd()),
            model,
            trigger(asked_by, cause),
            tell,
            data=partitions or data,
            steps=tasks_about(model),
        )
    )
