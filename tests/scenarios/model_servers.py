"""A local stack with numbered releases in its slots: the real reconciler, servers, router and Envoy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from coalmine.datasets.partitions import partition_bytes
from coalmine.local.stack import LocalStack
from coalmine.manifest import Example, LookupTable, Manifest, Tensor
from coalmine.reconcilers.process_files import ProcessHealth, ProcessSpec, ProcessStatus
from coalmine.reconcilers.processes import ProcessesReconciler
from coalmine.rollout.ports import SlotHealth, TrafficSplit
from coalmine.routers.envoy import EnvoyRouter
from coalmine.slots import Slot, SlotRelease, Slots
from coalmine.spec import Task
from tests.local.harness import eventually, running_stack, status_of
from tests.scenarios.numbered import KEYS, MODEL, answer, version
from tests.serving.releases import build, compile_release, release_file, rewrite


class ModelServers:
    """One model's two slots. `options` of the servers may change: they are started again then."""

    def __init__(self, stack: LocalStack, releases: Path) -> None:
        self.stack = stack
        self.slots = Slots(environment="test", model=MODEL)
        self.options: tuple[str, ...] = ()
        self._releases = releases
        self._ports = {slot: stack.port(f"{MODEL}-{slot}") for slot in Slot}
        self.router = EnvoyRouter(MODEL, stack.config_folder, stack.admin_address, timeout_s=10.0)
        self.router.declare(self._ports)
        self.reconciler = ProcessesReconciler(MODEL, stack.folder, self._command)

    def take(self, number: int) -> Slot:
        """Release `number` in the slot that is not stable, ready; users stay where they are."""
        folder = self._releases / str(number)
        digest = build_release(folder, number).digest
        release = SlotRelease(version=version(number), commit=f"{number:040}", model_digest=digest)
        self.slots = self.slots.with_candidate(release)
        slot = self.slots.candidate
        assert slot is not None
        self.reconcile()
        return slot

    def promote(self) -> None:
        """All users to the candidate."""
        assert self.slots.candidate is not None
        self.router.set_split(TrafficSplit.all_to(self.slots.candidate))
        self.slots = self.slots.with_promotion()

    def reconcile(self) -> None:
        """What the slots say runs, and is ready, when this returns."""
        self.reconciler.reconcile(self.slots)
        for slot in self.slots.releases:
            eventually(lambda: self.health(slot) is SlotHealth.READY, f"{slot} is ready")  # noqa: B023

    def health(self, slot: Slot) -> SlotHealth:
        status = self.reconciler.status(slot)
        assert status.health is not SlotHealth.FAILED, status
        return status.health

    def server(self, slot: Slot) -> ProcessStatus:
        status = status_of(self.stack, f"{MODEL}-{slot}")
        assert status is not None
        return status

    def signal(self, slot: Slot, number: int) -> None:
        """Sent to the server in `slot`; another one is ready in its place when this returns."""
        before = self.server(slot).pid
        assert before is not None
        os.kill(before, number)
        eventually(lambda: self._is_ready_as_another(slot, before), "another server is ready")

    def _is_ready_as_another(self, slot: Slot, before: int) -> bool:
        now = self.server(slot)
        return now.health is ProcessHealth.READY and now.pid not in (None, before)

    def _command(self, slot: Slot, release: SlotRelease) -> ProcessSpec:
        port, folder = self._ports[slot], self._releases / release.version.split(".")[1]
        command = [sys.executable, "-m", "coalmine.serving", "--release", str(folder)]
        return ProcessSpec(
            name=f"{MODEL}-{slot}",
            argv=(*command, "--slot", slot.value, "--port", str(port), *self.options),
            ready_url=f"http://127.0.0.1:{port}/v2/health/ready",
            port=port,
        )


@contextmanager
def model_servers(top: Path) -> Iterator[ModelServers]:
    with running_stack(top) as stack:
        yield ModelServers(stack, top / "releases")


def build_release(folder: Path, number: int) -> Manifest:
    """A compiled model that adds 1000 * number to what its table has for a key."""
    table = pd.DataFrame({"key": np.arange(KEYS), "value": number + np.arange(KEYS) / 100})
    rows = table[["value"]]
    built = build(folder, LinearRegression(), rows, rows["value"] + 1000 * number, Task.REGRESSION, MODEL)
    path = folder / "files/data/table/partitions/all.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(partition_bytes(table))
    (value,), key = built.manifest.inputs, Tensor(name="key", datatype="INT64")
    lookup = LookupTable(
        dataset="table",
        md5=f"{number:032}",
        key=("key",),
        columns=(value,),
        missing="refuse",
        files=(release_file(folder / "files", path),),
    )
    manifest = compile_release(built).manifest.model_copy(
        update={
            "version": version(number),
            "inputs": (key,),
            "features": (value,),
            "lookups": (lookup,),
            "example": Example(inputs={"key": 5}, outputs={"prediction": answer(number, 5)}),
        }
    )
    rewrite(folder, manifest)
    return manifest
