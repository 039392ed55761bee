"""One environment, up and ready to serve: its proxy runs, and each model's servers can be started."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from coalmine.audit.about import About
from coalmine.checks.webhook import AskedAbout
from coalmine.errors import NotFound
from coalmine.local.stack import LocalStack
from coalmine.operations.workspace import Workspace
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.registry.releases import materialise
from coalmine.rollout.ports import Check
from coalmine.rollout_spec import GateSpec
from coalmine.settings import Environment
from coalmine.slots import Slot, SlotRelease, Slots, parse_slots, slots_path
from coalmine.spec import ModelSpec, Serving
from coalmine.wiring import Adapters, Endpoints, adapters, checks


class ServingEnvironment:
    def __init__(self, workspace: Workspace, name: str) -> None:
        """
        Raises:
            NotFound: coalmine.yaml has no such environment.
        """
        self.name = name
        self._workspace = workspace
        self._settings: Environment = workspace.settings.environment(name)
        self.stack = LocalStack(workspace.top, name, self._settings)

    def up(self) -> None:
        """
        Raises:
            MachineUnready: no Envoy for this platform, or its address is in use.
        """
        self.stack.up()

    def slots(self, model: str) -> Slots:
        """What Git says should run; empty before the first delivery."""
        path = slots_path(self.name, model)
        try:
            text = self._workspace.repository.read(self._workspace.repository.head(), path).decode()
        except NotFound:
            return Slots(environment=self.name, model=model)
        return parse_slots(text, str(path))

    def adapters(self, spec: ModelSpec, gates: Sequence[GateSpec] = ()) -> Adapters:
        """gates: what the telemetry is read for."""
        return adapters(self._settings, spec.name, spec.serving.timeout_s, self._endpoints(spec), gates)

    def checks(self, gates: Sequence[GateSpec], about: About) -> dict[str, Check]:
        """
        Raises:
            Unsupported: a gate asks what this environment does not have.
        """
        asked_about = AskedAbout(about.model, about.candidate, about.id, about.environment)
        return checks(self._settings, gates, asked_about)

    def _endpoints(self, spec: ModelSpec) -> Endpoints:
        ports = {slot: self.stack.port(f"{spec.name}-{slot}") for slot in Slot}
        return Endpoints(
            admin_address=self.stack.admin_address,
            config_folder=self.stack.config_folder,
            process_folder=self.stack.folder,
            slots=ports,
            serve=lambda slot, release: self._server(spec, slot, release, ports[slot]),
        )

    def _server(self, spec: ModelSpec, slot: Slot, release: SlotRelease, port: int) -> ProcessSpec:
        workspace, model = self._workspace, spec.name
        folder = materialise(
            workspace.repository, workspace.dvc, model, release.commit, workspace.releases_folder(model)
        )
        command = [sys.executable, "-m", "coalmine.serving", "--release", str(folder)]
        command += ["--slot", slot.value, "--port", str(port), *serving_options(spec.serving, workspace.top)]
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
