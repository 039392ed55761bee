"""What keeps an environment of a cluster from taking a release, and how to mend it.

Everything is looked at as whoever runs the command may: by their kubeconfig, or by the pod's own account.
Nothing is changed, and Flux is asked for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from coalmine.cluster.client import Cluster, ClusterRefuses
from coalmine.cluster.kinds import GIT_REPOSITORY, KUSTOMIZATION
from coalmine.cluster.rights import Right, has, rights_of, who
from coalmine.errors import (
    CoalmineError,
    InputError,
    NotFound,
    ReconcilerUnavailable,
    TelemetryUnavailable,
    Unavailable,
    Unsupported,
)
from coalmine.operations.champion import newest
from coalmine.operations.cluster_environment import IMAGE, ClusterEnvironment
from coalmine.operations.findings import Finding, Health, check
from coalmine.operations.workspace import Workspace
from coalmine.reconcilers import flux_state
from coalmine.reconcilers.flux import FluxReconciler
from coalmine.reconcilers.kustomize import build
from coalmine.registry.images import image_for
from coalmine.registry.upstream import Upstream
from coalmine.spec import load_model_spec, model_names
from coalmine.telemetry.pods import ModelPods
from coalmine.wiring import find_series
from coalmine.yaml_loader import YAML_LOADER

Json = dict[str, Any]

RUNNER = "coalmine-runner"  # the ServiceAccount of k8s/components/access
OLDEST = (1, 30)  # version of Kubernetes
UNFILLED = "CHANGE-ME"  # as `coalmine new environment` writes what only a person knows

_RUNNER_PODS = {"app.kubernetes.io/part-of": "coalmine", "app.kubernetes.io/component": "runner"}


@dataclass(frozen=True)
class _Place:
    """The environment in Git and on its cluster.

    objects: what its folder builds. access: what an admin applies. Both are none where Git has them not, or
        they do not build.
    """

    workspace: Workspace
    serving: ClusterEnvironment
    objects: Sequence[Json] = ()
    access: Sequence[Json] = ()

    @property
    def cluster(self) -> Cluster:
        return self.serving.cluster

    @property
    def folder(self) -> Path:
        """From the top of the repository."""
        return Path("k8s/environments") / self.serving.name

    @property
    def models(self) -> list[str]:
        """Those that have a place here."""
        top = self.workspace.top / self.folder
        return [name for name in model_names(self.workspace.top) if (top / name).is_dir()]


def examine_cluster(workspace: Workspace, serving: ClusterEnvironment) -> list[Finding]:
    """Every check, whatever the others found; of the cluster none where it does not answer."""
    place, built = _built(_Place(workspace, serving))
    answers = check("API server", lambda: _api_server(place.cluster))
    on_the_cluster = [] if answers.health is Health.MISSING else list(_on_the_cluster(place))
    return [
        built,
        *(check(f"image of {model}", partial(_image, place, model)) for model in place.models),
        check("DVC remote", workspace.dvc.require_remote),
        answers,
        *on_the_cluster,
    ]


def _on_the_cluster(place: _Place) -> Iterator[Finding]:
    yield check("namespace", lambda: _namespace(place))
    yield check("kinds", lambda: _kinds(place))
    yield from _rights(place)
    if place.serving.settings.reconciler == "flux" and place.models:
        yield check("Flux", lambda: _flux(place))
    for model in place.models:
        yield check(f"route of {model}", partial(_route, place, model))
    yield check("Prometheus", lambda: _prometheus(place))
    yield check("runner", lambda: _runner(place))


# --- in Git ------------------------------------------------------------------------------


def _built(place: _Place) -> tuple[_Place, Finding]:
    """`place` with its objects, and what is to be said of them."""
    try:
        place = replace(place, objects=_objects(place), access=_access(place))
    except CoalmineError as error:
        return place, Finding(str(place.folder), Health.MISSING, str(error))
    return place, check(str(place.folder), lambda: _filled_in(place))


def _objects(place: _Place) -> list[Json]:
    if not (place.workspace.top / place.folder).is_dir():
        raise NotFound(f"there is no {place.folder}. Write it: coalmine new environment {place.serving.name}")
    return build(place.workspace.top, place.folder, "the working tree")


def _access(place: _Place) -> list[Json]:
    """Nothing where the environment was written before there were accounts."""
    top, access, flux = place.workspace.top, place.folder / "access", place.folder / "flux.yaml"
    objects = build(top, access, "the working tree") if (top / access).is_dir() else []
    if (top / flux).exists():
        objects += yaml.load_all((top / flux).read_text(encoding="utf-8"), Loader=YAML_LOADER)
    return objects


def _filled_in(place: _Place) -> str:
    objects = [*place.objects, *place.access]
    unfilled = sorted({f"{each['kind']} {each['metadata']['name']}" for each in objects if _unfilled(each)})
    if unfilled:
        raise InputError(f"{UNFILLED} stands yet in {', '.join(unfilled)}: fill it in, below {place.folder}")
    return f"{len(place.objects)} objects"


def _unfilled(thing: Json) -> bool:
    return UNFILLED in yaml.safe_dump(thing)


def _image(place: _Place, model: str) -> str:
    wanted = newest(place.workspace.repository, model)
    if wanted is None:
        return f"none needed yet: {model} has no release"
    image = image_for(place.workspace.repository, wanted.manifest)
    if image is not None:
        return image.reference
    for file in (place.folder / model, place.folder / "every_model"):
        if (named := _image_by_hand(place.workspace.top / file / "kustomization.yaml")) is not None:
            return f"{named}, as {file}/kustomization.yaml names it by hand"
    raise NotFound(
        f"none is recorded that ships the code of {model} {wanted.manifest.version}. "
        "Publish one: coalmine image build --push --tag HOST/TEAM/NAME"
    )


def _image_by_hand(file: Path) -> str | None:
    content = yaml.load(file.read_text(encoding="utf-8"), Loader=YAML_LOADER) if file.exists() else {}
    for each in content.get("images") or []:
        if each["name"] == IMAGE:
            version = f"@{each['digest']}" if "digest" in each else f":{each.get('newTag', 'latest')}"
            return f"{each.get('newName', IMAGE)}{version}"
    return None


# --- the API server ----------------------------------------------------------------------


def _api_server(cluster: Cluster) -> str:
    version = cluster.raw("/version")
    number = (int(version["major"]), int(re.sub(r"\D", "", version["minor"])))
    if number < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise Unsupported(f"{version['gitVersion']} at {cluster.server} is older than {oldest}: upgrade it")
    return f"Kubernetes {version['gitVersion']} at {cluster.server}, as {who(cluster)}"


def _namespace(place: _Place) -> str:
    name = place.cluster.namespace
    try:
        if place.cluster.has_namespace():
            return name
    except ClusterRefuses:
        return f"{name}; only whoever may look at namespaces knows that it is there"
    raise NotFound(f"there is no namespace {name}. An admin makes it: kubectl apply -k {place.folder}/access")


def _kinds(place: _Place) -> str:
    """Whether the cluster serves each kind that Git has, in the very version."""
    wanted = {(each["apiVersion"], each["kind"]) for each in place.objects}
    if place.serving.settings.reconciler == "flux":
        wanted |= {(kind.api_version, kind.kind) for kind in (GIT_REPOSITORY, KUSTOMIZATION)}
    lacking = [words for each in sorted(wanted) if (words := _unserved(place.cluster, *each)) is not None]
    if lacking:
        raise Unsupported(
            f"the cluster does not know {'; '.join(lacking)}. Install or upgrade what brings it"
        )
    return f"all {len(wanted)} are served"


def _unserved(cluster: Cluster, api_version: str, kind: str) -> str | None:
    try:
        cluster.kind(api_version, kind)
    except Unsupported:
        served = ", ".join(cluster.served(api_version.rpartition("/")[0]))
        return (
            f"{kind} of {api_version} ({f'of that group it serves {served}' if served else 'nor its group'})"
        )
    return None


# --- rights ------------------------------------------------------------------------------


def _rights(place: _Place) -> Iterator[Finding]:
    """One for each right that the runner's Roles give and whoever asks does not have."""
    needed = rights_of(RUNNER, place.cluster.namespace, place.access)
    if not needed:
        words = (
            f"nothing in {place.folder} says who may do what: coalmine new environment {place.serving.name}"
        )
        yield Finding("rights", Health.MISSING, words)
        return
    try:
        missing = [right for right in needed if not has(place.cluster, right)]
        asks = who(place.cluster)
    except CoalmineError as error:
        yield Finding("rights", Health.MISSING, str(error))
        return
    if not missing:
        yield Finding("rights", Health.OK, f"all {len(needed)} that drive a rollout")
    for right in missing:
        words = f"{asks} may not {right} in the namespace {right.namespace}. {_given_by(place, right)}"
        yield Finding(f"right to {right}", Health.MISSING, words)


def _given_by(place: _Place, right: Right) -> str:
    is_fluxs = right.group in (KUSTOMIZATION.group, GIT_REPOSITORY.group)
    source = f"-f {place.folder}/flux.yaml" if is_fluxs else f"-k {place.folder}/access"
    return f"An admin gives it to {RUNNER} by kubectl apply {source}, and to a person as docs/access.md says"


# --- what brings it and what it serves ---------------------------------------------------


def _flux(place: _Place) -> str:
    workspace, git = place.workspace, place.workspace.settings.git
    reconciler = place.serving.adapters(load_model_spec(workspace.top, place.models[0])).reconciler
    assert isinstance(reconciler, FluxReconciler)
    kustomization, source = reconciler.objects()
    if (why := flux_state.unwell(kustomization, source, git.branch, place.folder)) is not None:
        raise ReconcilerUnavailable(why)
    revision, tip = (
        flux_state.revision_of(source),
        Upstream(workspace.repository, git.remote, git.branch).tip(),
    )
    fetched = flux_state.commit_of(revision)
    if tip is not None and fetched != tip and workspace.repository.is_before(fetched, tip):
        raise ReconcilerUnavailable(flux_state.behind(source, tip))
    account = kustomization["spec"].get("serviceAccountName")
    return f"{revision} is applied, {f'as {account}' if account else 'with the rights of Flux itself'}"


def _route(place: _Place, model: str) -> str:
    split = place.serving.adapters(load_model_spec(place.workspace.top, model)).router.observed_split()
    if split is None:
        return "accepted; it sends nobody anywhere yet"
    return f"accepted; {', '.join(f'{weight} % to {slot}' for slot, weight in split.weights.items())}"


def _prometheus(place: _Place) -> str:
    """Whether it has what each pod counts that takes requests."""
    namespace = place.cluster.namespace
    found = find_series(place.serving.settings)(f'coalmine_started_seconds{{namespace="{namespace}"}}')
    scraped = {each.labels.get("pod") for each in found}
    ready = {pod.name for model in place.models for pod in ModelPods(place.cluster, model).ready()}
    if missed := sorted(ready - scraped):
        raise TelemetryUnavailable(
            f"it answers, and has nothing of {', '.join(missed)} in {namespace}: let it scrape the pods with "
            "the labels `namespace` and `pod` (docs/telemetry.md)"
        )
    return f"it has the counts of {len(ready)} pods" if ready else "it answers; no pod takes requests yet"


def _runner(place: _Place) -> str:
    namespace = place.cluster.namespace
    if place.serving.rollouts.runner.is_held():
        return "alive"
    meant = [each["metadata"]["name"] for each in place.objects if _is_runner(each)]
    if meant:
        raise Unavailable(
            f"Git has the Deployment {meant[0]}, and nobody renews the Lease coalmine-runner in {namespace}. "
            f"See why: kubectl -n {namespace} describe deployment {meant[0]}"
        )
    return "no service: each delivery drives its own rollout"


def _is_runner(thing: Json) -> bool:
    marks = thing["metadata"].get("labels") or {}
    return thing["kind"] == "Deployment" and _RUNNER_PODS.items() <= marks.items()
