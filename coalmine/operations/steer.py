"""What a person does to a rollout under way: pause, resume, abort, promote."""

from __future__ import annotations

import time

from coalmine.errors import NotFound
from coalmine.manifest import Trigger
from coalmine.operations.deliver import Delivered, resume
from coalmine.operations.environments import open_environment
from coalmine.operations.unfinished import unfinished_rollout
from coalmine.operations.workspace import Tell, Workspace
from coalmine.rollout.ports import Ask, Request
from coalmine.spec import load_model_spec


def steer(
    workspace: Workspace, model: str, environment: str, ask: Ask, trigger: Trigger, tell: Tell
) -> Delivered | None:
    """Ask the rollout's runner; where it is gone, drive the rollout from here.

    Returns how it ended when it was driven from here; None when its runner will obey.

    Raises:
        NotFound: no such model or environment, or no rollout of `model` is under way in `environment`.
        RepositoryUnready, MachineUnready: signatures are required, and this clone cannot sign.
    """
    load_model_spec(workspace.top, model)
    if ask not in (Ask.ABORT, Ask.PAUSE):  # what protects users waits for no key
        workspace.require_signing()
    serving = open_environment(workspace, environment)
    rollouts = serving.rollouts
    folder = unfinished_rollout(workspace, serving, serving.slots(model))
    if folder is None:
        raise NotFound(f"No rollout of {model} is under way in {environment}.")
    rollouts.ask(folder, Request(ask, trigger.who, time.time()))
    if rollouts.is_driven(folder) or rollouts.runner.is_held():
        tell(f"Asked the rollout of {model} to {ask}.")
        return None
    tell(f"The runner of this rollout is gone: it goes on from here, with your {ask}.")
    return resume(workspace, serving, model, trigger, tell)
