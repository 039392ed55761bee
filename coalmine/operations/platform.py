"""`coalmine up` and `down`: everything that serves and schedules on this machine.

The local environment (Envoy, model servers) and Prefect (server, worker), all under one
supervisor. Prefect is run here as programs; only flows/ imports it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from coalmine.errors import MachineUnready
from coalmine.operations.at_rest import restore
from coalmine.operations.going_back import intended
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.signatures import require_signed
from coalmine.operations.status import status
from coalmine.operations.workspace import Tell, Workspace
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.settings import STATE
from coalmine.slots import Slots
from coalmine.spec import load_model_spec, model_names

SERVER, WORKER = "prefect-server", "prefect-worker"
POOL = "coalmine"
DEPLOYS_WITHIN_S = 180


@dataclass(frozen=True)
class Platform:
    users: str  # where requests come in
    prefect: str  # the Prefect UI


def up(workspace: Workspace, environment: str, tell: Tell) -> Platform:
    """Idempotent.

    Raises:
        MachineUnready: no Envoy for this platform, an address is in use, or Prefect does not take the
            deployments.
        IntegrityError: signatures are required here, and nobody allowed has signed what is to serve.
        ServerUnavailable: a program died at start; with its last words.
    """
    serving = LocalEnvironment(workspace, environment)
    has_worker = any(process.name == WORKER and process.is_alive for process in serving.stack.processes())
    stable = [_at_rest(workspace, serving, model) for model in model_names(workspace.top)]
    served = [(each.model, each.stable_release) for each in stable if each.candidate is None]
    require_signed(
        workspace, environment, [(model, has.version, has.commit) for model, has in served if has is not None]
    )
    serving.up()
    for slots in stable:
        model = slots.model
        if slots.stable is not None and slots.candidate is None:
            restore(serving, load_model_spec(workspace.top, model), slots)
            tell(f"{model} {slots.releases[slots.stable].version} serves.")
    tell("Starting the Prefect server.")
    env = start_prefect_server(workspace, serving)
    if not has_worker:
        _report_crashed(env["PREFECT_API_URL"])
    tell("Deploying the flows.")
    run_prefect(workspace.top, env, "work-pool", "create", POOL, "--type", "process", "--overwrite")
    run_prefect(workspace.top, env, "deploy", "--all")
    serving.stack.run(_worker(workspace.top, env), ready_within_s=60)
    _go_on_with_rollouts(workspace, environment, env, tell)
    return Platform(f"http://{serving.stack.address}", env["PREFECT_API_URL"].removesuffix("/api"))


def _at_rest(workspace: Workspace, serving: LocalEnvironment, model: str) -> Slots:
    """What is to serve: after a rollback that is not recorded yet, not what Git still names."""
    waiting = intended(workspace.top, serving.name, model)
    return serving.slots(model) if waiting is None else waiting.after


def down(workspace: Workspace, environment: str) -> None:
    """Idempotent. What served is started again by the next `up`."""
    LocalEnvironment(workspace, environment).stack.down()


def start_prefect_server(workspace: Workspace, serving: LocalEnvironment) -> dict[str, str]:
    """The server of this repository, ready; what a program needs to use it.

    Raises:
        ServerUnavailable: it died at start; with its last words.
    """
    url = f"http://127.0.0.1:{serving.stack.port(SERVER)}"
    env = _prefect_environment(workspace.top, url)
    serving.stack.run(_server(url, env), ready_within_s=120)
    return env


def run_prefect(top: Path, env: Mapping[str, str], *words: str) -> None:
    """`prefect WORDS` in `top`, with `env` besides this process's own.

    Raises:
        MachineUnready: it failed; with its last words.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    ran = subprocess.run(
        command,
        cwd=top,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=DEPLOYS_WITHIN_S,
        check=False,
    )
    if ran.returncode != 0:
        said = (ran.stdout + ran.stderr).strip()[-1500:]
        raise MachineUnready(f"`prefect {' '.join(words)}` failed in {top}: {said}")


def _report_crashed(api: str) -> None:
    """The runs whose worker ended before it could say that they did: Prefect would show them as running."""
    running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}}}
    pool = {"work_pools": {"name": {"any_": [POOL]}}}
    crashed = {
        "type": "CRASHED",
        "name": "Crashed",
        "message": "Its worker ended: `coalmine down`, or a crash.",
    }
    with httpx.Client(base_url=f"{api}/", timeout=30) as client:
        for run in client.post("flow_runs/filter", json={**running, **pool}).raise_for_status().json():
            path = f"flow_runs/{run['id']}/set_state"
            client.post(path, json={"state": crashed, "force": True}).raise_for_status()


def _go_on_with_rollouts(workspace: Workspace, environment: str, env: Mapping[str, str], tell: Tell) -> None:
    """Those whose runner ended with the machine, or with `down`: nobody watches their users."""
    for found in status(workspace, environment):
        rollout = found.rollout
        if rollout is None or rollout.runner_alive:
            continue
        parameters = {"model": found.model, "environment": environment, "version": rollout.candidate}
        run_prefect(
            workspace.top, env, "deployment", "run", "deliver/deliver", "--params", json.dumps(parameters)
        )
        tell(f"The rollout of {found.model} {rollout.candidate} is unfinished: it goes on.")


def _prefect_environment(top: Path, url: str) -> dict[str, str]:
    """What a program needs to find this repository's Prefect server at `url`, and to stay offline."""
    return {
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_HOME": str(top / STATE / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def _server(url: str, env: Mapping[str, str]) -> ProcessSpec:
    host, _, port = url.removeprefix("http://").rpartition(":")
    program = (sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port)
    return ProcessSpec(SERVER, program, env, ready_url=f"{url}/api/health")


def _worker(top: Path, env: Mapping[str, str]) -> ProcessSpec:
    # nice: a training must not take the processor from those who serve.
    program = f"nice {sys.executable!r} -m prefect worker start --pool {POOL} --type process"
    command = f"cd {str(top)!r} && exec {program}"
    return ProcessSpec(WORKER, ("/bin/sh", "-c", command), env)
