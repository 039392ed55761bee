"""A repository of one's own: `init`, `new`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coalmine.cli.words import open_workspace, say


class TaskName(StrEnum):
    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


def init(directory: Annotated[Path, typer.Argument(help="An empty or new folder.")]) -> None:
    """Write a repository of your own, with two example models, its Git remote and its DVC remote."""
    from coalmine.scaffold.repository import init as write_repository

    write_repository(directory)
    say(f"{directory} is ready. Try:")
    say(
        f"  cd {directory}\n  coalmine ingest german-credit\n"
        "  coalmine retrain credit-risk\n  coalmine deliver credit-risk"
    )


def new_model(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by dashes.")],
    dataset: Annotated[str, typer.Option(help="The dataset it learns from: a folder of data/.")],
    task: Annotated[TaskName, typer.Option(help="What kind of answer it gives.")] = TaskName.BINARY,
    target: Annotated[
        str | None, typer.Option(help="The column it predicts; default: the dataset's last.")
    ] = None,
) -> None:
    """A new model: models/NAME/ with model.yaml and its DVC pipeline."""
    from coalmine.scaffold.repository import new_model as write_model
    from coalmine.spec import Task

    for path in write_model(open_workspace().top, name, dataset, Task(task.value), target):
        say(f"wrote {path}")


def new_dataset(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by dashes.")],
    files: Annotated[
        str, typer.Option(help="CSV or Parquet: a path or URL, with {partition} where there are several.")
    ],
) -> None:
    """A new dataset: data/NAME/ with its schema, read off the file."""
    from coalmine.scaffold.repository import new_dataset as write_dataset

    for path in write_dataset(open_workspace().top, name, files):
        say(f"wrote {path}")
