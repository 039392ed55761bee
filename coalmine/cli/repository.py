"""A repository of one's own: `init`, `new`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coalmine.cli.words import open_workspace, say

if TYPE_CHECKING:
    from coalmine.operations.workspace import Workspace
    from coalmine.scaffold.environment import Remotes, Written


class TaskName(StrEnum):
    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class RouterName(StrEnum):
    GATEWAY_API = "gateway_api"
    ISTIO = "istio"
    LINKERD = "linkerd"
    APPMESH = "appmesh"


class ReconcilerName(StrEnum):
    FLUX = "flux"
    APPLY = "apply"


def init(directory: Annotated[Path, typer.Argument(help="An empty or new folder.")]) -> None:
    """Write a repository of your own, with two example models, its Git remote and its DVC remote."""
    from coalmine.scaffold.repository import init as write_repository

    write_repository(directory)
    say(f"{directory} is ready. Try:")
    say(
        f"  cd {directory}\n  coalmine ingest german-credit\n"
        "  coalmine retrain credit-risk\n  coalmine deliver credit-risk"
    )


def clone(
    url: Annotated[str, typer.Argument(help="The Git repository; https, ssh, or a path.")],
    into: Annotated[Path, typer.Option(help="A folder to be made.")],
    branch: Annotated[str, typer.Option(help="Where releases are recorded.")] = "main",
) -> None:
    """Clone a repository for a pod: training and runners begin with it."""
    from coalmine.registry.cloning import clone as make

    repository = make(url, branch, into)
    say(f"{into} is at {repository.head()} of {branch}.")


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


def new_environment(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by dashes.")],
    router: Annotated[RouterName | None, typer.Option(help="What moves the users.")] = None,
    reconciler: Annotated[
        ReconcilerName | None, typer.Option(help="What brings Git to the cluster; apply needs no Flux.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Where the models' objects are; default: NAME.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Of the kubeconfig; default: its current one, or the pod's own.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The name under which users ask; default: any.")] = None,
    gateway: Annotated[
        str | None, typer.Option(help="By which users come in: NAMESPACE/NAME of a Gateway.")
    ] = None,
    prometheus_url: Annotated[
        str | None, typer.Option(help="Of the Prometheus that scrapes the pods, as seen from here.")
    ] = None,
) -> None:
    """A new environment on a cluster: k8s/environments/NAME/; again for models that are new since."""
    from coalmine.scaffold.environment import Wanted
    from coalmine.scaffold.environment import new_environment as write_environment

    workspace = open_workspace()
    wanted = Wanted(
        router=router and router.value,
        reconciler=reconciler and reconciler.value,
        namespace=namespace,
        context=context,
        host=host,
        gateway=gateway,
        prometheus_url=prometheus_url,
    )
    written = write_environment(workspace.top, name, wanted, _remotes(workspace))
    _say_written(written, otherwise=f"Every model has its place in k8s/environments/{name} already.")


def new_training(
    environment: Annotated[str, typer.Option("--environment", "-e", help="Where runs deliver to.")],
    namespace: Annotated[
        str, typer.Option(help="Of the worker and the pods of runs, and of nothing else.")
    ] = "training",
    prefect_url: Annotated[
        str | None, typer.Option(help="PREFECT_API_URL as pods reach it: http://prefect:4200/api.")
    ] = None,
) -> None:
    """Retraining in a cluster: k8s/training/ with Prefect's worker and the pods of its runs."""
    from coalmine.scaffold.training import Wanted
    from coalmine.scaffold.training import new_training as write_training

    workspace = open_workspace()
    wanted = Wanted(environment, namespace, prefect_url)
    written = write_training(workspace.top, wanted, _remotes(workspace))
    _say_written(written, otherwise="k8s/training is there already.")


def _remotes(workspace: Workspace) -> Remotes:
    from coalmine.scaffold.environment import Remotes

    git = workspace.settings.git
    return Remotes(
        git=workspace.repository.remote_url(git.remote),
        branch=git.branch,
        dvc=workspace.dvc.shared_remote(),
    )


def _say_written(written: Written, *, otherwise: str) -> None:
    for path in written.paths:
        say(f"wrote {path}")
    if not written.paths:
        say(otherwise)
        return
    for place in written.unfilled:
        say(f"yours to fill in: {place}")
    say("\n  ".join(["Look at it, and then:", *written.next]))
