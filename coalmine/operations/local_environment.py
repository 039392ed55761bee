"""An environment of this machine: its proxy runs, and each model's servers are processes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from coalmine.errors import Unsupported
from coalmine.journals.looks import FileLooks, Looks
from coalmine.journals.rollouts import LocalRollouts, Rollouts
from coalmine.local.stack import LocalStack
from coalmine.operations.champion import Release
from coalmine.operations.serving_environment import ServingEnvironment, slot_release
from coalmine.operations.workspace import Workspace
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.registry.images import image_for
from coalmine.registry.releases import materialise
from coalmine.rollout.evidence import Answers
from coalmine.rollout_spec import GateSpec
from coalmine.slots import Slot, SlotPod, SlotRelease
from coalmine.spec import ModelSpec, Serving
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
        return None if self.stack.is_up else "the local stack is down: coalmine up"

    def adapters(self, spec: ModelSpec, gates: Sequence[GateSpec] = ()) -> Adapters:
        return local_adapters(spec.name, spec.serving.timeout_s, self._endpoints(spec), gates)

    def answers(self, spec: ModelSpec, slot: Slot) -> Mapping[str, Answers]:
        return local_answers(spec.name, self._ports(spec.name), slot)

    def looks(self, model: str) -> Looks:
        return FileLooks(self._workspace.top, self.name, model)

    def servers(self, model: str) -> Mapping[str, str]:
        names = {f"{model}-{slot}" for slot in Slot}
        return {each.name: each.health.value for each in self.stack.processes() if each.name in names}

    def contents(self, wanted: Release) -> tuple[SlotRelease, SlotPod | None]:
        return slot_release(wanted, image_for(self._workspace.repository, wanted.manifest)), None

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
        command = [sys.executable, "-m", "coalmine.serving", "--release", str(folder)]
        command += ["--slot", slot.value, "--port", str(port)]
        command += serving_options(spec.serving, workspace.top)
        return ProcessSpec(
            name=f"{model}-{slot}",
            argv=tuple(command),
            env={"OMP_NUM_THREADS": "1"},
            ready_url=f"http://127.0.0.1:{port}/v2/health/ready",
            port=port,
        )


def serving_options(serving: Serving, top: Path) -> list[str]:
    """`serving` of model.yaml as options of `python -m coalmine.serving`; a sink that is a file stands
    below `top`."""
    options = ["--timeout-s", str(serving.timeout_s), "--queue", str(serving.queue)]
    payloads = serving.payloads
    if payloads is not None:
        sink = payloads.sink if "://" in payloads.sink else str(top / payloads.sink)
        options += ["--payload-sink", sink, "--payload-sample", str(payloads.sample)]
    return options
