"""One environment, whichever it is: what Git says should run there, and how it is reached.

Processes of this machine stand in `local_environment`, pods of a cluster in `cluster_environment`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from coalmine.checks.webhook import AskedAbout
from coalmine.drift.facts import FluxFacts, RunningModels
from coalmine.errors import NotFound
from coalmine.journals.about import About
from coalmine.journals.looks import Looks
from coalmine.journals.rollouts import Rollouts
from coalmine.operations.champion import Release
from coalmine.operations.workspace import Workspace
from coalmine.registry.images import Image
from coalmine.rollout.evidence import Answers
from coalmine.rollout.ports import Check
from coalmine.rollout_spec import GateSpec
from coalmine.settings import Environment
from coalmine.slots import Slot, SlotPod, SlotRelease, Slots, parse_slots, slots_path
from coalmine.spec import ModelSpec
from coalmine.wiring import Adapters, checks


class ServingEnvironment(ABC):
    def __init__(self, workspace: Workspace, name: str) -> None:
        """
        Raises:
            NotFound: coalmine.yaml has no such environment.
            InputError: COALMINE_PROMETHEUS_URL is no URL.
        """
        self.name = name
        self.settings: Environment = workspace.settings.environment(name).as_reached_from_here()
        self._workspace = workspace

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the users' requests come in."""

    @property
    @abstractmethod
    def rollouts(self) -> Rollouts:
        """Its rollouts, whoever drives them."""

    @property
    def warning(self) -> str:
        """What its people should know of it and mend one day; "" where there is nothing."""
        return ""

    @property
    def cluster_requests(self) -> int | None:
        """How many this process has made of the API server; None where there is none."""
        return None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For a process that drives many rollouts: what each of them reads at every look is read once for all
        while the block runs. To be entered before anything is asked."""
        yield

    @abstractmethod
    def up(self) -> None:
        """Ready to take a release, when it returns. Idempotent.

        Raises:
            MachineUnready, Unavailable, InputError: what is missing, and how to get it.
        """

    @abstractmethod
    def trouble(self) -> str | None:
        """Why nothing can be read here at all, in words for people. Starts nothing."""

    @abstractmethod
    def adapters(self, spec: ModelSpec, gates: Sequence[GateSpec] = ()) -> Adapters:
        """gates: what the telemetry is read for."""

    @abstractmethod
    def answers(self, spec: ModelSpec, slot: Slot) -> Mapping[str, Answers]:
        """What each life of the slot's servers has counted since it began.

        Raises:
            TelemetryUnavailable: it cannot be read; safe to retry.
        """

    @abstractmethod
    def looks(self, model: str) -> Looks:
        """Where what was seen of the model's stable release is kept."""

    @abstractmethod
    def watch_looks(self) -> Looks:
        """Where what `coalmine watch` saw of the environment, and told, is kept."""

    @abstractmethod
    def running(self, models: Sequence[tuple[ModelSpec, Slots]]) -> RunningModels:
        """What runs of each of `models` now; starts and changes nothing. What cannot be read says so in
        `unread`, and is no error.

        models: with what Git says of each, by which what runs is compared where it has a configuration.
        """

    def flux(self) -> FluxFacts | None:
        """What keeps Flux from bringing what is pushed; None: nothing, or there is no Flux here.

        Raises:
            ReconcilerUnavailable: nobody can say.
        """
        return None

    @abstractmethod
    def servers(self, model: str) -> Mapping[str, str]:
        """How each of the model's servers is, by name."""

    @abstractmethod
    def contents(self, wanted: Release) -> tuple[SlotRelease, SlotPod | None]:
        """`wanted` as a slot holds it, and what the slot's pods are given; None where processes serve.

        Raises:
            InputError: this environment is not made for the model yet; says how to.
        """

    def slots(self, model: str) -> Slots:
        """What Git says should run; empty before the first delivery."""
        path = slots_path(self.name, model)
        try:
            text = self._workspace.repository.read(self._workspace.repository.head(), path).decode()
        except NotFound:
            return Slots(environment=self.name, model=model)
        return parse_slots(text, str(path))

    def checks(self, gates: Sequence[GateSpec], about: About) -> dict[str, Check]:
        """
        Raises:
            Unsupported: a gate asks what this environment does not have.
        """
        asked_about = AskedAbout(about.model, about.candidate, about.id, about.environment)
        return checks(self.settings, gates, asked_about)


def slot_release(wanted: Release, image: Image | None) -> SlotRelease:
    """`wanted` as a slot holds it. image: the published one that serves it."""
    manifest = wanted.manifest
    return SlotRelease(
        version=manifest.version,
        commit=wanted.commit,
        model_digest=manifest.digest,
        dataset_digests=manifest.dataset_digests,
        image_digest=None if image is None else image.digest,
    )
