"""coalmine.yaml: the environments of a repository, and which technology each one uses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from coalmine.admission_spec import Admission
from coalmine.errors import InputError, NotFound
from coalmine.rollout_spec import WebhookAddress
from coalmine.spec import Name, load_spec
from coalmine.strict import Spec

FILE = Path("coalmine.yaml")
PROMETHEUS_URL = "COALMINE_PROMETHEUS_URL"  # in the environment: as this machine or pod reaches it
REQUIRED = "required"  # of an environment's `signatures`
STATE = Path(".coalmine")  # this machine's state, from the top of the repository; never in Git

_OBJECT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"  # as Kubernetes takes it


class PrometheusSettings(Spec):
    """A server that speaks Prometheus's HTTP API, for counts and the gate `query`. A secret stays out of
    this file.

    url: of the server, without `/api/v1`. token_file, token_env: where the bearer token is, in a file or an
    environment variable; read anew at each query. ca_file: whom to trust instead of the system.
    tenant: sent as `X-Scope-OrgID`, which Mimir, Cortex and Thanos ask for.
    """

    url: str = Field(pattern=r"^https?://[^\s?#@]+$")
    token_file: Path | None = None
    token_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ca_file: Path | None = None
    tenant: str | None = Field(None, pattern=r"^[\x21-\x7e]+$")
    timeout_s: float = Field(5.0, gt=0, le=60)

    @model_validator(mode="after")
    def _one_token_and_only_where_it_is_hidden(self) -> PrometheusSettings:
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("give `token_file` or `token_env`, not both")
        has_token = self.token_file is not None or self.token_env is not None
        if has_token and self.url.startswith("http:") and not is_loopback(self.url):
            raise ValueError(f"a token would go to {self.url} for everybody to read: give an https URL")
        if self.ca_file is not None and self.url.startswith("http:"):
            raise ValueError("`ca_file` says whom to trust over https, and `url` is http")
        return self


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


class FluxSettings(Spec):
    """Which of Flux's Kustomizations carries the environment's folder to the cluster; its source is read
    from it."""

    kustomization: str = Field(pattern=_OBJECT_NAME)
    namespace: str = Field("flux-system", pattern=_OBJECT_NAME)


class KubernetesSettings(Spec):
    """namespace: where the models' objects are. context: of the kubeconfig; default: its current one, and in
    a pod the pod's own service account."""

    namespace: str = Field(pattern=_OBJECT_NAME)
    context: str | None = None
    flux: FluxSettings | None = None


class Environment(Admission):
    """One place where models serve: processes of this machine, or pods of a cluster, and when it takes a
    release.

    address: where the users' requests come in, `host:port`; the local Envoy listens there.
    after, freezes, releases_per_day, time_zone: what docs/environments.md says of them.
    signatures: `required`, and only a release whose tag somebody in allowed_signers has signed serves here
    (docs/signatures.md). Once any environment asks for it, all that coalmine records is signed.
    """

    reconciler: Literal["processes", "flux", "apply"] = "processes"
    router: Literal["envoy", "gateway_api", "istio", "linkerd", "appmesh"] = "envoy"
    telemetry: Literal["scrape", "prometheus"] = "scrape"
    address: str = Field("127.0.0.1:8800", pattern=r"^[^:]+:\d+$")
    signatures: Literal["required", "optional"] = "optional"
    prometheus: PrometheusSettings | None = None
    kubernetes: KubernetesSettings | None = None

    @model_validator(mode="after")
    def _parts_that_go_together(self) -> Environment:
        if self.reconciler == "processes":
            if self.router != "envoy" or self.telemetry != "scrape" or self.kubernetes is not None:
                raise ValueError(
                    "`reconciler: processes` serves on this machine, by `router: envoy` and `telemetry: "
                    "scrape` alone: for a cluster write `reconciler: flux`, or `apply` without Flux"
                )
            return self
        if self.kubernetes is None:
            raise ValueError(f"`reconciler: {self.reconciler}` needs `kubernetes: {{namespace: ...}}`")
        if self.router == "envoy" or self.telemetry != "prometheus":
            raise ValueError(
                f"`reconciler: {self.reconciler}` serves on a cluster, by `telemetry: prometheus` and one of "
                "the routers gateway_api, istio, linkerd and appmesh"
            )
        if self.prometheus is None:
            raise ValueError("`telemetry: prometheus` needs `prometheus: {url: ...}`")
        if (self.reconciler == "flux") != (self.kubernetes.flux is not None):
            raise ValueError("`kubernetes.flux` belongs to `reconciler: flux`, and that needs it")
        return self

    def as_reached_from_here(self) -> Environment:
        """With the Prometheus at COALMINE_PROMETHEUS_URL, where that is set: a pod reaches it by another URL.

        Raises:
            InputError: it is no URL of a Prometheus.
        """
        url = os.environ.get(PROMETHEUS_URL)
        if not url or self.prometheus is None:
            return self
        try:
            prometheus = PrometheusSettings.model_validate({**self.prometheus.model_dump(), "url": url})
        except ValidationError as error:
            raise InputError(
                f"{PROMETHEUS_URL} cannot stand for `prometheus.url` of {FILE}. Mend it in the environment "
                f"of this process: {error.errors()[0]['msg']}"
            ) from error
        return self.model_copy(update={"prometheus": prometheus})


class ReviewSettings(Spec):
    """Releases and candidates reach the branch by pull requests, which somebody merges.

    wait_s: how long a command waits for that; run again, it goes on. host: which kind the Git remote is;
    default: by its address.
    """

    wait_s: float = Field(900.0, ge=0)
    host: Literal["github", "gitlab"] | None = None


class GitSettings(Spec):
    remote: str = "origin"
    branch: str = "main"
    review: ReviewSettings | None = None


class RetentionSettings(Spec):
    """What `coalmine gc` may delete, which is never what a release needs.

    unneeded_days: how long something stays that nothing needs. Longer than a training runs, and than anybody
        keeps a commit to themselves.
    dvc_remote_is_ours: no other repository keeps objects in the DVC remote.
    lost_listings: DVC's digests of folders (`....dir`) whose listings are lost for good, so that nobody can
        say which files they had.
    """

    unneeded_days: int = Field(30, ge=1)
    dvc_remote_is_ours: bool = False
    lost_listings: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.dir$")], ...] = ()


News = Literal["appeared", "ended"]


class WatchNotifySpec(WebhookAddress):
    """on: what is told of a finding of `coalmine watch`."""

    on: tuple[News, ...] = get_args(News)


class WatchSettings(Spec):
    """What `coalmine watch` goes by. notify: who is told of what it finds. not_delivered_after_s: for so long
    a release may wait to be delivered to an environment that has its model."""

    notify: tuple[WatchNotifySpec, ...] = ()
    not_delivered_after_s: float = Field(86_400.0, gt=0)


class Settings(Spec):
    schema_version: Literal[1] = 1
    git: GitSettings = GitSettings()
    retention: RetentionSettings = RetentionSettings()
    watch: WatchSettings = WatchSettings()
    environments: dict[Name, Environment]

    @model_validator(mode="after")
    def _after_leads_to_a_first(self) -> Settings:
        for name, environment in self.environments.items():
            way = [name]
            while environment.after is not None:
                before = environment.after.environment
                if before not in self.environments:
                    there = ", ".join(self.environments)
                    raise ValueError(
                        f"`environments.{way[-1]}.after` names `{before}`, which is no environment here. "
                        f"There are: {there}"
                    )
                if before in way:
                    raise ValueError(
                        f"`after` goes round in a circle, so that no release ever comes to "
                        f"{' after '.join([*way, before])}: take one of them out"
                    )
                way.append(before)
                environment = self.environments[before]
        return self

    @property
    def requires_signatures(self) -> bool:
        return any(each.signatures == REQUIRED for each in self.environments.values())

    def environment(self, name: str) -> Environment:
        """
        Raises:
            NotFound: names the environments there are.
        """
        try:
            return self.environments[name]
        except KeyError as error:
            there = ", ".join(self.environments)
            raise NotFound(f"{FILE} has no environment `{name}`. There are: {there}.") from error


def load_settings(repository: Path) -> Settings:
    """
    Raises:
        NotFound: no coalmine.yaml here.
        SpecError: what is wrong in it.
    """
    return load_spec(Settings, repository, FILE)


def find_repository(start: Path) -> Path:
    """The nearest folder at or above `start` that holds coalmine.yaml.

    Raises:
        NotFound: none; says how to make one.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).is_file():
            return folder
    raise NotFound(
        f"{start.resolve()} is not inside a coalmine repository (no {FILE} here or above). "
        "Go into one, or write a new one: coalmine init DIR"
    )
