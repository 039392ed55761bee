"""k8s/environments/<environment>/, as far as it depends on what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coalmine.scaffold.starters import fill, flow, scalar
from coalmine.settings import FluxSettings, KubernetesSettings, is_loopback
from coalmine.slots import Slots, dump_slots
from coalmine.spec import ModelSpec

PLACEHOLDER = "CHANGE-ME"


@dataclass(frozen=True)
class Gateway:
    """The object by which users come in, where the router has one."""

    namespace: str | None
    name: str


@dataclass(frozen=True)
class Place:
    """Where models are to serve, and how users get there.

    host: the name under which users ask. git, dvc: the addresses of the repository's two remotes, as far as
        they are known; branch: of the first.
    """

    environment: str
    settings: KubernetesSettings
    router: str
    host: str | None
    gateway: Gateway | None
    git: str
    branch: str
    dvc: str | None

    @property
    def folder(self) -> Path:
        return Path("k8s/environments") / self.environment

    @property
    def access(self) -> Path:
        """What an admin applies: the namespace, the accounts, their rights."""
        return self.folder / "access"


def environment_files(place: Place, models: Sequence[str]) -> dict[str, str]:
    """What `place.folder` holds besides its models: name to text."""
    flux = place.settings.flux
    files = {
        "kustomization.yaml": fill(
            "environment-kustomization.yaml",
            environment=place.environment,
            namespace=place.settings.namespace,
            applied="is applied once, and model by model at each delivery"
            if flux is None
            else "Flux applies",
            models="\n".join(f"  - {model}" for model in models),
        ),
        "access/kustomization.yaml": _access(place),
        "access/namespace.yaml": _namespace(place),
        "settings.yaml": _settings(place),
        "every_model/kustomization.yaml": fill(
            "environment-every-model.yaml",
            environment=place.environment,
            router=place.router,
            route=_route(place),
        ),
    }
    if flux is not None:
        url = flux_url(place.git)
        files["flux.yaml"] = fill(
            "environment-flux.yaml",
            path=(place.folder / "flux.yaml").as_posix(),
            name=flux.kustomization,
            namespace=flux.namespace,
            environment=place.environment,
            models=place.settings.namespace,
            account=_account(place.settings, flux),
            url=url or PLACEHOLDER,
            words="" if url else " # http, https or ssh, as `git remote get-url` here: Flux reads from it",
            branch=place.branch,
        )
    return files


def model_files(environment: str, spec: ModelSpec) -> dict[str, str]:
    """What the model's folder holds: name to text."""
    serving = spec.serving
    return {
        "kustomization.yaml": fill(
            "environment-model.yaml",
            environment=environment,
            model=spec.name,
            replicas=str(serving.replicas),
            requests=flow({"cpu": serving.resources.cpu, "memory": serving.resources.memory}),
            limits=flow({"memory": serving.resources.memory}),
        ),
        "slots.yaml": dump_slots(Slots(environment=environment, model=spec.name)),
    }


def _namespace(place: Place) -> str:
    """With what makes the router's mesh take its pods in."""
    more = ""
    if place.router == "linkerd":
        more = "  annotations:\n    linkerd.io/inject: enabled\n"
    elif place.router == "appmesh":
        more = f"    mesh: {PLACEHOLDER} # as the Mesh's `namespaceSelector` has it\n"
        more += "    appmesh.k8s.aws/sidecarInjectorWebhook: enabled\n"
    return fill("environment-namespace.yaml", namespace=place.settings.namespace, more=more)


def _access(place: Place) -> str:
    return fill(
        "environment-access.yaml",
        environment=place.environment,
        namespace=place.settings.namespace,
        router=place.router,
        path=place.access.as_posix(),
        more="" if place.settings.flux is not None else "  - ../../../components/access/without-flux\n",
    )


def _account(settings: KubernetesSettings, flux: FluxSettings) -> str:
    """Flux takes an account of the Kustomization's own namespace, and of no other."""
    if flux.namespace == settings.namespace:
        return "  serviceAccountName: coalmine-reconciler # Flux applies with its rights, not with its own\n"
    return (
        "  # Flux applies with its own rights. It would take the account coalmine-reconciler from its own\n"
        f"  # namespace alone, and the account is in {settings.namespace}: docs/access.md.\n"
    )


def _settings(place: Place) -> str:
    if place.dvc is not None and pods_reach(place.dvc):
        return _filled_settings(place, words="", remote=scalar(place.dvc))
    why = "there is no DVC remote" if place.dvc is None else "only this machine reaches the DVC remote"
    words = f"""
  # Yet {why}. Make one for all, and name it here as in .dvc/config:
  #   dvc remote add --default store s3://BUCKET/PATH --force && dvc push --all-commits"""
    return _filled_settings(place, words=words, remote=PLACEHOLDER)


def _filled_settings(place: Place, *, words: str, remote: str) -> str:
    return fill(
        "environment-settings.yaml",
        words=words,
        remote=remote,
        environment=scalar(place.environment),
        git=scalar(flux_url(place.git) or PLACEHOLDER),
        branch=scalar(place.branch),
    )


def _route(place: Place) -> str:
    """Whose users the route takes, as the router says it: a patch of the route in `components/<router>`."""
    match place.router:
        case "gateway_api":
            gateway = place.gateway or Gateway(None, PLACEHOLDER)
            parent = {"name": gateway.name}
            if gateway.namespace is not None:
                parent["namespace"] = gateway.namespace
            fields: dict[str, Any] = {"parentRefs": [parent]}
            if place.host is not None:
                fields["hostnames"] = [place.host]
            return _patch("HTTPRoute", fields)
        case "istio":
            gateway = place.gateway or Gateway(None, PLACEHOLDER)
            named = gateway.name if gateway.namespace is None else f"{gateway.namespace}/{gateway.name}"
            return _patch("VirtualService", {"gateways": [named], "hosts": [place.host or "*"]})
        case _:
            return ""  # requests never leave the mesh


def _patch(kind: str, fields: Mapping[str, Any]) -> str:
    """`fields` of the route's `spec`, in place of what the component says."""
    lines = ["patches:", f"  - target: {{kind: {kind}, name: route}}", "    patch: |"]
    for field, value in fields.items():
        lines += ["      - op: add", f"        path: /spec/{field}", f"        value: {flow(value)}"]
    return "\n".join(lines)


# --- addresses ---------------------------------------------------------------------------


def flux_url(git: str) -> str | None:
    """A Git remote's address as Flux takes it, without a password; None: only this machine reaches it."""
    host, colon, path = git.partition(":")
    if colon and "/" not in host and not path.startswith("//"):
        return f"ssh://{host}/{path}"  # Git's short form of ssh
    parts = urlsplit(git)
    if parts.scheme not in ("http", "https", "ssh") or is_loopback(git):
        return None
    # Over ssh a user belongs to the address. Otherwise whoever cloned so has a token there.
    return git if parts.scheme == "ssh" else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def pods_reach(dvc: str) -> bool:
    """Whether a DVC remote's address means the same thing in a pod as here."""
    return urlsplit(dvc).scheme not in ("", "file") and not is_loopback(dvc)
