"""A rollout under way: what a person asks of it, and the service that drives all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from coalmine.cli.words import EnvironmentName, ModelName, open_workspace, say, steer


def pause(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Take no further step; the gates keep watching and may still roll back."""
    from coalmine.rollout.ports import Ask

    steer(model, environment, Ask.PAUSE)


def resume(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Go on after a pause."""
    from coalmine.rollout.ports import Ask

    steer(model, environment, Ask.RESUME)


def abort(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Bring the users back to stable."""
    from coalmine.rollout.ports import Ask

    steer(model, environment, Ask.ABORT)


def promote(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Skip the stages that are left, and the bake."""
    from coalmine.rollout.ports import Ask

    steer(model, environment, Ask.PROMOTE)


def approve(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Give the word that an approval gate waits for, in your name."""
    from coalmine.rollout.ports import Ask

    steer(model, environment, Ask.APPROVE)


def runner(
    environment: EnvironmentName = "local",
    metrics_port: Annotated[
        int | None, typer.Option(help="Prometheus metrics and /healthz on this port.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="The address that they are read at; in a pod 0.0.0.0.")
    ] = "127.0.0.1",
) -> None:
    """Drive every rollout of the environment until SIGTERM, which leaves them to be gone on with."""
    from coalmine.operations.runner import serve
    from coalmine.operations.who import person

    workspace = open_workspace()
    serve(
        workspace, environment, person(workspace), say, metrics_port=metrics_port, metrics_host=metrics_host
    )
