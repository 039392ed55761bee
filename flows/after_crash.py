"""What happens when the process of a flow run dies (SIGKILL, no memory) in the middle of a rollout.

Its users must not stay on a candidate that nobody watches: the worker, who sees the end, has
another run go on with the rollout. Once: what kills two runs is for a person to look at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Flow, State
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.utilities.callables import get_parameter_defaults

from coalmine.journals import journal
from coalmine.operations.environments import open_environment
from coalmine.operations.workspace import Workspace

AGAIN = "after-crash"


def finish_rollout(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """A flow's on_crashed hook; carried out by the worker."""
    parameters = {**get_parameter_defaults(flow.fn), **flow_run.parameters}
    model, environment = parameters["model"], parameters["environment"]
    at_hand = open_environment(Workspace.open(Path.cwd()), environment).rollouts.at_hand(model)
    running = [folder for folder in at_hand if journal.is_running(folder)]
    if not running or AGAIN in flow_run.tags:
        return
    run_deployment(
        "deliver/deliver",
        parameters={
            "model": model,
            "environment": environment,
            "version": journal.read_about(running[-1]).candidate,
        },
        tags=[AGAIN],
        timeout=0,  # do not wait for it
        as_subflow=False,
    )
