"""A cluster's worker: makes the work pool and the deployments as Git has them, and starts runs as pods.

`python -m flows.worker` in a pod of k8s/training; PREFECT_API_URL says where Prefect is. docs/training.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.flows import load_flow_from_entrypoint

from coalmine.errors import CoalmineError, InputError
from coalmine.operations.platform import POOL, run_prefect
from coalmine.operations.workspace import Workspace

TEMPLATE = Path("k8s/training/job.yaml")
CODE = "/srv/repository"  # the clone, in this pod and in those of runs
KIND = "kubernetes"


def main() -> None:
    try:
        _set("PREFECT_API_URL")  # without it Prefect would start a server of its own, for nobody
        top = Workspace.open(Path.cwd()).top
        create_pool(job_template(top, image=_set("PIPELINES_IMAGE"), namespace=_set("POD_NAMESPACE")))
        deploy(top, _set("ENVIRONMENT"))
    except CoalmineError as error:
        print(f"flows.worker: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    words = ["worker", "start", "--pool", POOL, "--type", KIND, "--with-healthcheck"]
    os.execv(sys.executable, [sys.executable, "-m", "prefect", *words])


def job_template(top: Path, *, image: str, namespace: str) -> dict[str, Any]:
    """Of the repository's job.yaml, with the place and the image of whoever asks as defaults.

    Raises:
        InputError: there is none, or it is not of Prefect's form.
    """
    try:
        template: dict[str, Any] = yaml.safe_load((top / TEMPLATE).read_text(encoding="utf-8"))
        variables = template["variables"]["properties"]
        variables["image"]["default"] = image
        variables["namespace"]["default"] = namespace
    except FileNotFoundError:
        raise InputError(f"{TEMPLATE} is not there. Write it: coalmine new training") from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(
            f"{TEMPLATE} is no base job template with the variables `image` and `namespace`: {error!r}. "
            "To begin anew, remove it and run coalmine new training."
        ) from error
    return template


def create_pool(template: dict[str, Any]) -> None:
    """The pool with `template`; one that is there is updated. Runs that have started keep theirs.

    Raises:
        InputError: there is a pool of that name and of another type.
    """
    pool = WorkPoolCreate(name=POOL, type=KIND, base_job_template=template)
    with get_client(sync_client=True) as client:
        for each in client.read_work_pools():
            if each.name == POOL and each.type != KIND:
                raise InputError(
                    f"The Prefect server has a work pool {POOL} already, of type {each.type}. A server is "
                    f"for one machine or one cluster: take another, or `prefect work-pool delete {POOL}`."
                )
        client.create_work_pool(pool, overwrite=True)


def deploy(top: Path, environment: str) -> None:
    """What prefect.yaml has, for pods; runs deliver to `environment` unless they are told otherwise.

    Raises:
        MachineUnready: Prefect does not take it; with its last words.
    """
    content = yaml.safe_load((top / "prefect.yaml").read_text(encoding="utf-8"))
    content["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": CODE}}]
    for each in content["deployments"]:
        flow: Flow[..., Any] = load_flow_from_entrypoint(str(top / each["entrypoint"]))
        if "environment" in flow.parameters.properties:
            each["parameters"] = {"environment": environment, **each.get("parameters", {})}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        run_prefect(top, {}, "deploy", "--all", "--prefect-file", str(file))


def _set(variable: str) -> str:
    """
    Raises:
        InputError: it is not set.
    """
    if value := os.environ.get(variable):
        return value
    raise InputError(f"{variable} is not set: the Deployment in k8s/training/worker.yaml sets it.")


if __name__ == "__main__":
    main()
