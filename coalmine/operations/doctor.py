"""What is missing on this machine, in this repository or in one environment, and how to mend it."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

from coalmine.errors import CoalmineError, MachineUnready
from coalmine.local.proxy import envoy_program
from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.operations.doctor_cluster import examine_cluster
from coalmine.operations.environments import open_environment
from coalmine.operations.findings import Finding, Health, check
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.workspace import Workspace
from coalmine.registry.signing import signing_key
from coalmine.registry.upstream import Upstream
from coalmine.spec import dataset_names, load_dataset_spec, load_model_spec, model_names

ENOUGH_DISK_BYTES = 2_000_000_000


def examine_environment(workspace: Workspace, name: str) -> list[Finding]:
    """Of a cluster, whatever it needs to take a release; else, whatever this machine does.

    Raises:
        NotFound: coalmine.yaml has no such environment.
    """
    serving = open_environment(workspace, name)
    if isinstance(serving, ClusterEnvironment):
        return examine_cluster(workspace, serving)
    return examine(workspace.top)


def examine(start: Path) -> list[Finding]:
    """Every check, whatever the others found."""
    findings = [
        check("Python", _python),
        check("Envoy", lambda: str(envoy_program())),
        check("disk", lambda: _disk(start)),
    ]
    try:
        workspace = Workspace.open(start)
    except CoalmineError as error:
        return [*findings, Finding("repository", Health.MISSING, str(error))]
    git = workspace.settings.git
    return [
        *findings,
        Finding("repository", Health.OK, str(workspace.top)),
        check("Git identity", workspace.repository.identity),
        check("signatures", lambda: _signatures(workspace)),
        check("Git branch", lambda: _branch(workspace)),
        check("Git remote", lambda: _git_remote(workspace, git.remote)),
        check("DVC remote", workspace.dvc.require_remote),
        *(check(f"data/{name}", partial(_dataset, workspace, name)) for name in dataset_names(workspace.top)),
        *(check(f"models/{name}", partial(_model, workspace, name)) for name in model_names(workspace.top)),
        *(
            check(f"environment {name}", partial(_environment, workspace, name))
            for name in workspace.settings.environments
        ),
    ]


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _disk(start: Path) -> str:
    free = shutil.disk_usage(start).free
    if free < ENOUGH_DISK_BYTES:
        raise MachineUnready(f"only {free / 1e9:.1f} GB are free at {start}: make room, 2 GB at least")
    return f"{free / 1e9:.0f} GB free"


def _signatures(workspace: Workspace) -> str:
    signer = workspace.require_signing()
    if signer is not None:
        return f"required; this clone signs as {signer}"
    return "not required; this clone " + (
        "does not sign" if signing_key(workspace.repository) is None else "signs"
    )


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
