"""An environment of a cluster: pods serve, and what Git says reaches them by Flux or by `apply`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

from coalmine.cluster.client import Cluster
from coalmine.cluster.watched import WatchedCluster
from coalmine.errors import CoalmineError, InputError, NotFound
from coalmine.journals.cluster_rollouts import ClusterRollouts
from coalmine.journals.looks import ClusterLooks, Looks
from coalmine.journals.rollouts import Rollouts
from coalmine.manifest import manifest_path
from coalmine.operations.champion import Release
from coalmine.operations.serving_environment import ServingEnvironment, slot_release
from coalmine.registry.images import image_for
from coalmine.rollout.evidence import Answers
from coalmine.rollout_spec import GateSpec
from coalmine.settings import KubernetesSettings
from coalmine.slots import Slot, SlotPod, SlotRelease, slots_path
from coalmine.spec import ModelSpec, load_model_spec
from coalmine.wiring import TECHNOLOGIES, Adapters, cluster_adapters, cluster_answers

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
        return ClusterLooks(self.cluster, model)

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
