"""What is missing on this machine or in this repository, and how to mend it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from coalmine.errors import CoalmineError, MachineUnready
from coalmine.local.proxy import envoy_program
from coalmine.operations.environments import open_environment
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.workspace import Workspace
from coalmine.registry.upstream import Upstream
from coalmine.spec import dataset_names, load_dataset_spec, load_model_spec, model_names

ENOUGH_DISK_BYTES = 2_000_000_000


class Health(StrEnum):
    OK = "ok"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    what: str
    health: Health
    detail: str  # when missing: what to do


def examine(start: Path) -> list[Finding]:
    """Every check, whatever the others found."""
    findings = [
        _check("Python", _python),
        _check("Envoy", lambda: str(envoy_program())),
        _check("disk", lambda: _disk(start)),
    ]
    try:
        workspace = Workspace.open(start)
    except CoalmineError as error:
        return [*findings, Finding("repository", Health.MISSING, str(error))]
    git = workspace.settings.git
    return [
        *findings,
        Finding("repository", Health.OK, str(workspace.top)),
        _check("Git identity", workspace.repository.identity),
        _check("Git branch", lambda: _branch(workspace)),
        _check("Git remote", lambda: _git_remote(workspace, git.remote)),
        _check("DVC remote", workspace.dvc.require_remote),
        *(
            _check(f"data/{name}", partial(_dataset, workspace, name))
            for name in dataset_names(workspace.top)
        ),
        *(_check(f"models/{name}", partial(_model, workspace, name)) for name in model_names(workspace.top)),
        *(
            _check(f"environment {name}", partial(_environment, workspace, name))
            for name in workspace.settings.environments
        ),
    ]


def _check(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, Health.OK, look())
    except CoalmineError as error:
        return Finding(what, Health.MISSING, str(error))


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _disk(start: Path) -> str:
    free = shutil.disk_usage(start).free
    if free < ENOUGH_DISK_BYTES:
        raise MachineUnready(f"only {free / 1e9:.1f} GB are free at {start}: make room, 2 GB at least")
    return f"{free / 1e9:.0f} GB free"


def _branch(workspace: Workspace) -> str:
    wanted = workspace.settings.git.branch
    workspace.repository.require_branch(wanted)
    return wanted


def _git_remote(workspace: Workspace, remote: str) -> str:
    workspace.repository.require_remote(remote)
    Upstream(workspace.repository, remote, workspace.settings.git.branch).fetch()
    return f"{remote} answers"


def _dataset(workspace: Workspace, name: str) -> str:
    spec = load_dataset_spec(workspace.top, name)
    return f"{len(spec.columns)} columns"


def _model(workspace: Workspace, name: str) -> str:
    spec = load_model_spec(workspace.top, name)
    load_dataset_spec(workspace.top, spec.dataset)
    return f"{spec.task} on {spec.dataset}"


def _environment(workspace: Workspace, name: str) -> str:
    serving = open_environment(workspace, name)
    if isinstance(serving, LocalEnvironment):
        serving.stack.require_free_address()
        running = "up" if serving.stack.is_up else "down (coalmine up starts it)"
    else:
        serving.up()
        running = "up"
    told = f"{serving.address}, {running}"
    return f"{told}. {serving.warning}" if serving.warning else told
