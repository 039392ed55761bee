"""Starts an environment of a cluster: its place under k8s/environments/ and its entry in coalmine.yaml.

Run again, it adds the places of models that are new since, and overwrites nothing. The entry comes last, so
that a run that was cut short is finished by the same command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from coalmine.cluster.client import FIELD_MANAGER
from coalmine.errors import InputError
from coalmine.scaffold.edited import edited, mapping
from coalmine.scaffold.files import add_folder, write
from coalmine.scaffold.names import check_name
from coalmine.scaffold.starters.environment import (
    PLACEHOLDER,
    Gateway,
    Place,
    environment_files,
    model_files,
)
from coalmine.settings import FILE, Environment, Settings, load_settings
from coalmine.spec import ModelSpec, load_model_spec, model_names, parse_spec

PROMETHEUS_URL = "http://127.0.0.1:9090"  # what `kubectl port-forward` makes of a cluster's own

_INSIDE_THE_MESH = ("linkerd", "appmesh")  # requests come from its own pods, and through no gateway
_OBJECT = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"  # a name as Kubernetes takes it
_HOST = rf"(\*\.)?{_OBJECT}(\.{_OBJECT})*"


@dataclass(frozen=True)
class Wanted:
    """What somebody says of an environment; None: nothing.

    host: the name under which users ask. gateway: NAMESPACE/NAME, or NAME in the environment's own namespace.
    context: of the kubeconfig.
    """

    router: str | None = None
    reconciler: str | None = None
    namespace: str | None = None
    context: str | None = None
    host: str | None = None
    gateway: str | None = None
    prometheus_url: str | None = None


@dataclass(frozen=True)
class Remotes:
    """Where the repository is shared. git: "" where it has no remote; branch: of releases."""

    git: str
    branch: str
    dvc: str | None


@dataclass(frozen=True)
class Written:
    """paths: what was written, from the top. unfilled: `path:line` of what only a person can fill in. next:
    what to type then, once."""

    paths: list[Path]
    unfilled: list[str]
    next: list[str]


def new_environment(repository: Path, name: str, wanted: Wanted, remotes: Remotes) -> Written:
    """k8s/environments/<name>/ with a folder for each model, and `name` in coalmine.yaml.

    Raises:
        InputError: a name that cannot be used, or is another environment's; options that are missing, or say
            otherwise than coalmine.yaml.
        SpecError: coalmine.yaml or a model.yaml cannot be read.
    """
    check_name(name, "environment")
    _check_addresses(wanted)
    there = load_settings(repository).environments.get(name)
    text = (repository / FILE).read_text(encoding="utf-8")
    if there is None:
        text = _with_entry(text, name, _entry(name, wanted))
    else:
        _require_as_it_is(name, there, wanted)
    environment = parse_spec(Settings, text, str(FILE)).environments[name]
    place = _place(name, environment, wanted, remotes)
    specs = [load_model_spec(repository, model) for model in model_names(repository)]
    files = _absent(repository, place, specs)

    write(repository, files)
    paths = [*files, *_add_models(repository, place, specs)]
    if there is None:
        write(repository, {FILE: text})
        paths.append(FILE)
    return Written(paths, unfilled(files), _next(place, files, is_new=there is None))


# --- what is asked for -------------------------------------------------------------------


def _check_addresses(wanted: Wanted) -> None:
    """
    Raises:
        InputError: one of them is none.
    """
    if wanted.host is not None and not re.fullmatch(_HOST, wanted.host):
        raise InputError(f"--host {wanted.host} is no host name, such as models.example.com.")
    if wanted.gateway is not None and not re.fullmatch(rf"({_OBJECT}/)?{_OBJECT}", wanted.gateway):
        raise InputError(
            f"--gateway {wanted.gateway} is no Gateway: say NAMESPACE/NAME, such as gateways/users."
        )


def _entry(name: str, wanted: Wanted) -> dict[str, Any]:
    """As coalmine.yaml has it."""
    if wanted.router is None or wanted.reconciler is None:
        raise InputError(
            f"{FILE} has no environment `{name}` yet. To make it, say what moves its users and what brings "
            f"Git to its cluster: coalmine new environment {name} --router gateway_api --reconciler flux"
        )
    kubernetes: dict[str, Any] = {"namespace": wanted.namespace or name}
    if wanted.context is not None:
        kubernetes["context"] = wanted.context
    if wanted.reconciler == "flux":
        # Beside the models: Flux takes an account of the namespace in which it finds its own object.
        kubernetes["flux"] = {"kustomization": f"coalmine-{name}", "namespace": kubernetes["namespace"]}
    return {
        "reconciler": wanted.reconciler,
        "router": wanted.router,
        "telemetry": "prometheus",
        **({} if wanted.host is None else {"address": f"{wanted.host}:80"}),
        "prometheus": {"url": wanted.prometheus_url or PROMETHEUS_URL},
        "kubernetes": kubernetes,
    }


def _with_entry(text: str, name: str, entry: Mapping[str, Any]) -> str:
    def add(content: CommentedMap) -> None:
        mapping(content, "environments")[name] = entry

    return edited(text, add)


def _require_as_it_is(name: str, there: Environment, wanted: Wanted) -> None:
    """
    Raises:
        InputError: what is said of `name` is not so.
    """
    if there.kubernetes is None:
        raise InputError(f"{FILE} has an environment `{name}` already, of this machine. Choose another name.")
    said = {
        "--router": (wanted.router, there.router),
        "--reconciler": (wanted.reconciler, there.reconciler),
        "--namespace": (wanted.namespace, there.kubernetes.namespace),
        "--context": (wanted.context, there.kubernetes.context),
        "--prometheus-url": (wanted.prometheus_url, there.prometheus and there.prometheus.url),
    }
    for option, (new, old) in said.items():
        if new is not None and new != old:
            raise InputError(
                f"{FILE} has an environment `{name}` already, and not with {option} {new} but with {old}. "
                f"Choose another name, or leave {option} out, or edit {FILE}."
            )


def _place(name: str, environment: Environment, wanted: Wanted, remotes: Remotes) -> Place:
    assert environment.kubernetes is not None
    router = environment.router
    if router in _INSIDE_THE_MESH and (wanted.host is not None or wanted.gateway is not None):
        raise InputError(f"{router} routes between pods of its mesh: it takes neither --host nor --gateway.")
    gateway = None
    if wanted.gateway is not None:
        namespace, _, gateway_name = wanted.gateway.rpartition("/")
        gateway = Gateway(namespace or None, gateway_name)
    return Place(
        environment=name,
        settings=environment.kubernetes,
        router=router,
        host=wanted.host,
        gateway=gateway,
        git=remotes.git,
        branch=remotes.branch,
        dvc=remotes.dvc,
    )


# --- what is written ---------------------------------------------------------------------


def _absent(repository: Path, place: Place, specs: Sequence[ModelSpec]) -> dict[Path, str]:
    files = environment_files(place, [spec.name for spec in specs])
    return {
        place.folder / file: text
        for file, text in files.items()
        if not (repository / place.folder / file).exists()
    }


def _add_models(repository: Path, place: Place, specs: Sequence[ModelSpec]) -> list[Path]:
    """A folder for each model that has none, listed in the environment's kustomization.yaml."""
    new = [spec for spec in specs if not (repository / place.folder / spec.name).exists()]
    listed = place.folder / "kustomization.yaml"
    before = (repository / listed).read_text(encoding="utf-8")
    after = edited(before, lambda content: _list(content, [spec.name for spec in new])) if new else before
    written = []
    # The names first: a run that is cut short here finds no folders, and lists the same names again.
    if after != before:
        write(repository, {listed: after})
        written.append(listed)
    for spec in new:
        written += add_folder(repository, place.folder / spec.name, model_files(place.environment, spec))
    return written


def _list(content: CommentedMap, models: Sequence[str]) -> None:
    resources = content.setdefault("resources", [])
    resources.extend(model for model in models if model not in resources)


def unfilled(files: Mapping[Path, str]) -> list[str]:
    """`path:line` of what only a person can fill in."""
    return [
        f"{path}:{number}"
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if PLACEHOLDER in line
    ]


def _next(place: Place, files: Mapping[Path, str], *, is_new: bool) -> list[str]:
    lines = [
        f"git add {FILE} {place.folder}",
        f'git commit -m "{place.environment}: a place for each model" && git push',
    ]
    context = place.settings.context
    kubectl = "kubectl" if context is None else f"kubectl --context {context}"
    if any(path.parent == place.access for path in files):
        lines.append(f"{kubectl} apply -k {place.access} # once, by an admin: namespace, accounts, rights")
    if is_new:
        if place.settings.flux is None:
            # As coalmine, who owns these fields at each delivery.
            lines.append(
                f"kubectl kustomize {place.folder} | "
                f"{kubectl} apply --server-side --field-manager {FIELD_MANAGER} -f -"
            )
        else:
            lines.append(f"{kubectl} apply -f {place.folder / 'flux.yaml'}")
    return [*lines, f"coalmine deliver MODEL --environment {place.environment}"]
