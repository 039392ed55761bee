"""An environment of this machine: its proxy runs, and each model's servers are processes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from coalmine.drift.facts import Difference, RouteFacts, Running, RunningModels, Server, SlotFacts
from coalmine.drift.findings import Aspect
from coalmine.errors import (
    IntegrityError,
    MachineUnready,
    RouteConflict,
    TelemetryUnavailable,
    Unavailable,
    Unsupported,
)
from coalmine.journals.looks import FileLooks, Looks
from coalmine.journals.rollouts import LocalRollouts, Rollouts
from coalmine.local.stack import LocalStack
from coalmine.operations.champion import Release
from coalmine.operations.serving_environment import ServingEnvironment, slot_release
from coalmine.operations.workspace import Workspace
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.registry.images import image_for
from coalmine.registry.releases import materialise, release_folder, verify_release
from coalmine.rollout.evidence import Answers
from coalmine.rollout.ports import SlotHealth, SlotStatus
from coalmine.rollout_spec import GateSpec
from coalmine.slots import Slot, SlotPod, SlotRelease, Slots
from coalmine.spec import ModelSpec, Serving
from coalmine.telemetry.served import served_at
from coalmine.wiring import Adapters, Endpoints, local_adapters, local_answers


class LocalEnvironment(ServingEnvironment):
    def __init__(self, workspace: Workspace, name: str) -> None:
        """
        Raises:
            NotFound: coalmine.yaml has no such environment.
            Unsupported: it is a cluster.
        """
        super().__init__(workspace, name)
        if self.settings.kubernetes is not None:
            raise Unsupported(f"{name} is a cluster, not this machine: nothing is started for it here")
        self.stack = LocalStack(workspace.top, name, self.settings)

    @property
    def address(self) -> str:
        return self.stack.address

    @property
    def rollouts(self) -> Rollouts:
        return LocalRollouts(self._workspace.top, self.name)

    def up(self) -> None:
        self.stack.up()

    def trouble(self) -> str | None:
        if not self.stack.is_up:
            return "the local stack is down: coalmine up"
        if (other := self.stack.owner) != self.name:
            return f"the local stack serves the environment `{other}`. End it first: coalmine down"
        return None

    def adapters(self, spec: ModelSpec, gates: Sequence[GateSpec] = ()) -> Adapters:
        return local_adapters(spec.name, spec.serving.timeout_s, self._endpoints(spec), gates)

    def answers(self, spec: ModelSpec, slot: Slot) -> Mapping[str, Answers]:
        return local_answers(spec.name, self._ports(spec.name), slot)

    def looks(self, model: str) -> Looks:
        return FileLooks.at_model(self._workspace.top, self.name, model)

    def watch_looks(self) -> Looks:
        return FileLooks.at_environment(self._workspace.top, self.name)

    def running(self, models: Sequence[tuple[ModelSpec, Slots]]) -> RunningModels:
        return RunningModels({spec.name: self._running(spec, slots) for spec, slots in models})

    def servers(self, model: str) -> Mapping[str, str]:
        names = {f"{model}-{slot}" for slot in Slot}
        return {each.name: each.health.value for each in self.stack.processes() if each.name in names}

    def contents(self, wanted: Release) -> tuple[SlotRelease, SlotPod | None]:
        return slot_release(wanted, image_for(self._workspace.repository, wanted.manifest)), None

    # --- what runs -------------------------------------------------------------------------

    def _running(self, spec: ModelSpec, slots: Slots) -> Running:
        statuses = {each.name: each for each in self.stack.processes()}
        names = {slot: f"{spec.name}-{slot}" for slot in Slot}
        if not slots.releases and not any(name in statuses for name in names.values()):
            return Running()
        unread: dict[Aspect, str] = {}
        seen: dict[Slot, SlotFacts] = {}
        route = None
        try:
            chosen = self.adapters(spec)
            seen = {slot: self._slot(chosen, spec, slots, slot) for slot in Slot}
        except (Unavailable, MachineUnready, IntegrityError) as error:
            unread = {Aspect.SERVERS: str(error), Aspect.ROUTE: str(error)}
        else:
            try:
                route = RouteFacts(chosen.router.observed_split())
            except RouteConflict as error:
                route = RouteFacts(foreign=str(error))
            except Unavailable as error:
                unread[Aspect.ROUTE] = str(error)
        return Running(seen, route, unread)

    def _slot(self, chosen: Adapters, spec: ModelSpec, slots: Slots, slot: Slot) -> SlotFacts:
        name, release = f"{spec.name}-{slot}", slots.releases.get(slot)
        desired = self.stack.desired(name)
        is_there = desired is not None or any(each.name == name for each in self.stack.processes())
        status = chosen.reconciler.status(slot) if is_there else None
        servers: tuple[Server, ...] = ()
        if status is not None and status.health is SlotHealth.READY:
            try:
                servers = (Server(name, served_at(self.stack.port(name))),)
            except TelemetryUnavailable as error:
                status = SlotStatus(SlotHealth.STARTING, str(error))
        if release is None:
            return SlotFacts(status, servers)
        folder = release_folder(self._workspace.releases_folder(spec.name), release.model_digest)
        configuration: tuple[Difference, ...] = ()
        if desired is not None:
            expected = shlex.join(self._command(spec, slot, folder))
            if (there := shlex.join(desired.spec.argv)) != expected:
                configuration = (Difference(f"the command of {name}", expected, there),)
        return SlotFacts(status, servers, _changed(folder, release.model_digest), configuration)

    # --- what is to run --------------------------------------------------------------------

    def _endpoints(self, spec: ModelSpec) -> Endpoints:
        ports = self._ports(spec.name)
        return Endpoints(
            admin_address=self.stack.admin_address,
            config_folder=self.stack.config_folder,
            process_folder=self.stack.folder,
            slots=ports,
            serve=lambda slot, release: self._server(spec, slot, release, ports[slot]),
        )

    def _ports(self, model: str) -> dict[Slot, int]:
        return {slot: self.stack.port(f"{model}-{slot}") for slot in Slot}

    def _server(self, spec: ModelSpec, slot: Slot, release: SlotRelease, port: int) -> ProcessSpec:
        workspace, model = self._workspace, spec.name
        folder = materialise(
            workspace.repository, workspace.dvc, model, release.commit, workspace.releases_folder(model)
        )
        return ProcessSpec(
            name=f"{model}-{slot}",
            argv=self._command(spec, slot, folder),
            env={"OMP_NUM_THREADS": "1"},
            ready_url=f"http://127.0.0.1:{port}/v2/health/ready",
            port=port,
        )

    def _command(self, spec: ModelSpec, slot: Slot, folder: Path) -> tuple[str, ...]:
        command = [sys.executable, "-m", "coalmine.serving", "--release", str(folder)]
        command += ["--slot", slot.value, "--port", str(self.stack.port(f"{spec.name}-{slot}"))]
        return (*command, *serving_options(spec.serving, self._workspace.top))


def _changed(folder: Path, digest: str) -> str:
    """Why what lies in `folder` is not the release of `digest`; "": it is, or nothing lies there yet."""
    try:
        verify_release(folder, digest)
    except (IntegrityError, MachineUnready) as error:
        return str(error)
    return ""


def serving_options(serving: Serving, top: Path) -> list[str]:
    """`serving` of model.yaml as options of `python -m coalmine.serving`; a sink that is a file stands
    below `top`."""
    options = ["--timeout-s", str(serving.timeout_s), "--queue", str(serving.queue)]
    payloads = serving.payloads
    if payloads is not None:
        sink = payloads.sink if "://" in payloads.sink else str(top / payloads.sink)
        options += ["--payload-sink", sink, "--payload-sample", str(payloads.sample)]
    return options
