"""An environment of a cluster: pods serve, and what Git says reaches them by Flux or by `apply`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property

from coalmine.cluster.client import Cluster, Json
from coalmine.cluster.watched import WatchedCluster
from coalmine.drift.facts import FluxFacts, RunningModels
from coalmine.drift.findings import Aspect
from coalmine.errors import CoalmineError, InputError, NotFound, TelemetryUnavailable
from coalmine.journals.cluster_rollouts import ClusterRollouts
from coalmine.journals.looks import ClusterLooks, Looks
from coalmine.journals.rollouts import Rollouts
from coalmine.manifest import manifest_path
from coalmine.operations.built import BuiltObjects
from coalmine.operations.champion import Release
from coalmine.operations.cluster_running import COMPARED, Seen, autoscaled, by_model, running
from coalmine.operations.serving_environment import ServingEnvironment, slot_release
from coalmine.reconcilers.flux import FluxReconciler, Pushed
from coalmine.reconcilers.kustomize import K8S
from coalmine.registry.images import image_for
from coalmine.registry.upstream import Upstream
from coalmine.rollout.evidence import Answers
from coalmine.rollout_spec import GateSpec
from coalmine.settings import KubernetesSettings
from coalmine.slots import Slot, SlotPod, SlotRelease, Slots, slots_path
from coalmine.spec import ModelSpec, load_model_spec
from coalmine.telemetry.served import query, served_by_pod
from coalmine.wiring import TECHNOLOGIES, Adapters, cluster_adapters, cluster_answers, find_series

IMAGE = "model-server"  # in k8s/base: what `images` of a kustomization.yaml replaces


class ClusterEnvironment(ServingEnvironment):
    @property
    def address(self) -> str:
        return self.settings.address

    @property
    def warning(self) -> str:
        return TECHNOLOGIES[self.settings.router].warning

    @cached_property
    def cluster(self) -> Cluster:
        """
        Raises:
            MachineUnready: no kubeconfig, or not the context that coalmine.yaml names.
        """
        return Cluster.connect(self._kubernetes.namespace, self._kubernetes.context)

    @property
    def cluster_requests(self) -> int:
        return self.cluster.pace.asked

    @contextmanager
    def watching(self) -> Iterator[None]:
        watched = self.cluster = WatchedCluster(self.cluster)
        try:
            yield
        finally:
            watched.stop()

    @property
    def _kubernetes(self) -> KubernetesSettings:
        assert self.settings.kubernetes is not None
        return self.settings.kubernetes

    @cached_property
    def rollouts(self) -> Rollouts:
        workspace = self._workspace
        return ClusterRollouts(self.cluster, workspace.repository, workspace.settings.git, self.name)

    def up(self) -> None:
        """Nothing is started; the cluster must answer."""
        self.cluster.raw("/version")

    def trouble(self) -> str | None:
        try:
            self.up()
        except CoalmineError as error:
            return str(error)
        return None

    def adapters(self, spec: ModelSpec, gates: Sequence[GateSpec] = ()) -> Adapters:
        workspace = self._workspace
        git = workspace.settings.git
        return cluster_adapters(self.settings, spec, self.cluster, workspace.repository, git, gates)

    def answers(self, spec: ModelSpec, slot: Slot) -> Mapping[str, Answers]:
        return cluster_answers(self.settings, spec.name, self._kubernetes.namespace, slot)

    def looks(self, model: str) -> Looks:
        return ClusterLooks.at_model(self.cluster, model)

    def watch_looks(self) -> Looks:
        return ClusterLooks.at_environment(self.cluster, self.name)

    def running(self, models: Sequence[tuple[ModelSpec, Slots]]) -> RunningModels:
        unread: dict[Aspect, str] = {}
        scaled: frozenset[str] = frozenset()
        wanted: Mapping[str, Sequence[Json]] | None = None
        digests: Mapping[str, str] = {}
        try:
            wanted, scaled = by_model(self._wanted()), autoscaled(self.cluster)
        except CoalmineError as error:
            wanted, unread[Aspect.OBJECTS] = None, str(error)
        with suppress(TelemetryUnavailable):  # then a pod is taken at the word of its template
            digests = served_by_pod(find_series(self.settings)(query(self._kubernetes.namespace)))
        seen = Seen(self.cluster, TECHNOLOGIES[self.settings.router], digests, wanted, scaled)
        found = running(seen, [(spec, slots, self.adapters(spec)) for spec, slots in models])
        return RunningModels(found.models, unread)

    def _wanted(self) -> Sequence[Json]:
        """The objects that Git has.

        Raises:
            SpecError, MachineUnready: as `BuiltObjects`.
        """
        git = self._workspace.settings.git
        return self._built.at(Upstream(self._workspace.repository, git.remote, git.branch).newest())

    @cached_property
    def _built(self) -> BuiltObjects:
        workspace = self._workspace
        kinds = [each.kind for each in COMPARED]
        return BuiltObjects(workspace.repository, self.name, workspace.settings.environments, kinds)

    def flux(self) -> FluxFacts | None:
        flux = self._kubernetes.flux
        if flux is None:
            return None
        repository, git = self._workspace.repository, self._workspace.settings.git
        upstream = Upstream(repository, git.remote, git.branch)
        reconciler = FluxReconciler(
            self.cluster, "", flux, Pushed(git.branch, upstream.newest, repository.is_before)
        )
        return reconciler.trouble(K8S / "environments" / self.name)

    def servers(self, model: str) -> Mapping[str, str]:
        reconciler = self.adapters(load_model_spec(self._workspace.top, model)).reconciler
        there = self.slots(model).releases
        return {f"{model}-{slot}": reconciler.status(slot).health.value for slot in Slot if slot in there}

    def contents(self, wanted: Release) -> tuple[SlotRelease, SlotPod | None]:
        repository, manifest = self._workspace.repository, wanted.manifest
        self._require_place(manifest.model)
        spec = load_model_spec(self._workspace.top, manifest.model)
        image = image_for(repository, manifest)
        pod = SlotPod(
            version=manifest.version,
            digest=manifest.digest,
            image=IMAGE if image is None else image.reference,
            manifest=repository.read(wanted.commit, manifest_path(manifest.model)).decode(),
            timeout_s=str(spec.serving.timeout_s),
            queue=str(spec.serving.queue),
        )
        return slot_release(wanted, image), pod

    def _require_place(self, model: str) -> None:
        place = slots_path(self.name, model).with_name("kustomization.yaml")
        repository = self._workspace.repository
        try:
            repository.read(repository.head(), place)
        except NotFound as error:
            raise InputError(
                f"{self.name} has no place for {model} yet: no commit has {place}. Write it, look at it, and "
                f"commit it: coalmine new environment {self.name}"
            ) from error
