"""Starts k8s/training/: where Prefect's worker and the pods of flow runs are.

Run again, it writes what is missing and overwrites nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coalmine.errors import InputError
from coalmine.scaffold.environment import Remotes, Written, unfilled
from coalmine.scaffold.files import write
from coalmine.scaffold.names import check_name
from coalmine.scaffold.starters import fill, scalar
from coalmine.scaffold.starters.environment import PLACEHOLDER, flux_url, pods_reach
from coalmine.settings import FILE, KubernetesSettings, load_settings

FOLDER = Path("k8s/training")
ACCESS = FOLDER / "access"


@dataclass(frozen=True)
class Wanted:
    """environment: to which runs deliver. namespace: of the pods. prefect_url: as they reach it, if known."""

    environment: str
    namespace: str
    prefect_url: str | None


def new_training(repository: Path, wanted: Wanted, remotes: Remotes) -> Written:
    """k8s/training/.

    Raises:
        InputError: the environment is none of a cluster; the namespace cannot be used, or is that of the
            models; the URL of Prefect is not one.
        SpecError: coalmine.yaml cannot be read.
    """
    kubernetes = _cluster(repository, wanted)
    files = {
        path: text
        for path, text in _files(wanted, kubernetes, remotes).items()
        if not (repository / path).exists()
    }
    write(repository, files)
    return Written([*files], unfilled(files), _next(kubernetes))


def _cluster(repository: Path, wanted: Wanted) -> KubernetesSettings:
    kubernetes = load_settings(repository).environment(wanted.environment).kubernetes
    if kubernetes is None:
        raise InputError(
            f"{wanted.environment} is of this machine, where `coalmine up` starts what retrains. Name an "
            f"environment of a cluster in {FILE}, or make one: coalmine new environment."
        )
    check_name(wanted.namespace, "namespace")
    if wanted.namespace == kubernetes.namespace:
        raise InputError(
            f"--namespace {wanted.namespace} is where the models of {wanted.environment} serve. Whoever "
            "makes Jobs there may use every account and Secret of it: choose another."
        )
    url = wanted.prefect_url
    if url is not None and not (url.startswith(("http://", "https://")) and url.rstrip("/").endswith("/api")):
        raise InputError(
            f"--prefect-url {url} is no Prefect API: say it as PREFECT_API_URL, such as http://prefect:4200/api."
        )
    return kubernetes


def _files(wanted: Wanted, kubernetes: KubernetesSettings, remotes: Remotes) -> dict[Path, str]:
    place, models = wanted.namespace, kubernetes.namespace
    remote = remotes.dvc if remotes.dvc is not None and pods_reach(remotes.dvc) else PLACEHOLDER
    settings = fill(
        "training-settings.yaml",
        environment=scalar(wanted.environment),
        git=scalar(flux_url(remotes.git) or PLACEHOLDER),
        branch=scalar(remotes.branch),
        remote=scalar(remote),
        prefect=scalar(wanted.prefect_url or PLACEHOLDER),
    )
    return {
        FOLDER / "kustomization.yaml": fill("training-kustomization.yaml", namespace=place),
        FOLDER / "settings.yaml": settings,
        FOLDER / "worker.yaml": fill("training-worker.yaml"),
        FOLDER / "job.yaml": fill("training-job.yaml", namespace=place),
        FOLDER / "network-policy.yaml": fill("training-network-policy.yaml"),
        ACCESS / "kustomization.yaml": fill("training-access.yaml", models=models),
        ACCESS / "namespace.yaml": fill("environment-namespace.yaml", namespace=place, more=""),
        ACCESS / "worker.yaml": fill("training-access-worker.yaml", namespace=place),
        ACCESS / "trainer.yaml": fill(
            "training-access-trainer.yaml",
            namespace=place,
            models=models,
            bindings="".join(_binding(place, role, where) for role, where in _roles(kubernetes)),
        ),
    }


def _roles(kubernetes: KubernetesSettings) -> list[tuple[str, str]]:
    """With the namespace of each. Whoever delivers asks Flux to look; without Flux, applies what Git has."""
    models, flux = kubernetes.namespace, kubernetes.flux
    of_runner = [("coalmine-runner", models), ("coalmine-runner-route", models)]
    if flux is not None:
        return [*of_runner, (f"{flux.kustomization}-ask", flux.namespace)]
    return [*of_runner, ("coalmine-reconciler", models), ("coalmine-reconciler-route", models)]


def _binding(namespace: str, role: str, where: str) -> str:
    name = f"coalmine-trainer-as-{role.removeprefix('coalmine-')}"
    return fill("training-access-binding.yaml", name=name, role=role, namespace=namespace, where=where)


def _next(kubernetes: KubernetesSettings) -> list[str]:
    kubectl = "kubectl" if kubernetes.context is None else f"kubectl --context {kubernetes.context}"
    return [
        f"git add {FOLDER}",
        'git commit -m "Models are retrained in the cluster" && git push',
        f"{kubectl} apply -k {ACCESS} # once, by an admin: namespace, accounts, rights",
        f"{kubectl} apply -k {FOLDER}",
    ]
