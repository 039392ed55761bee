"""Rollouts of fake models with everything else real: Envoy, supervisor, router, telemetry, journals on disk.

Only Git is left out: how a rollout ended is written to a file beside its journal.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data_plane.servers import Server, command
from coalmine.durable import append_line
from coalmine.journals import journal
from coalmine.journals.about import About, rollout_id
from coalmine.journals.journal import FileJournal
from coalmine.local.port_book import is_free
from coalmine.local.stack import LocalStack
from coalmine.manifest import Trigger
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.rollout.ports import TrafficSplit
from coalmine.rollout.runner import Ports
from coalmine.rollout_spec import GateSpec
from coalmine.settings import Environment
from coalmine.slots import Slot, SlotRelease, Slots
from coalmine.wiring import Adapters, Endpoints, SystemClock, local_adapters

ENVIRONMENT = "local"
TIMEOUT_S = 1.0  # of a request, as `serving.timeout_s`
STABLE, CANDIDATE = Slot.BLUE, Slot.GREEN
ENDED = "ended.jsonl"


@dataclass(frozen=True)
class DataPlane:
    """A local stack in a folder of its own, for fake models."""

    stack: LocalStack
    top: Path

    def ports(self, model: str, servers: Mapping[Slot, Server], gates: Sequence[GateSpec] = ()) -> Adapters:
        """What a rollout of `model` with `gates` acts on, its servers being `servers`."""
        return local_adapters(
            model,
            TIMEOUT_S,
            Endpoints(
                admin_address=self.stack.admin_address,
                config_folder=self.stack.config_folder,
                process_folder=self.stack.folder,
                slots={slot: server.port for slot, server in servers.items()},
                serve=lambda slot, _: _process(model, servers[slot]),
            ),
            gates,
        )

    def begin(self, model: str, stages: Sequence[int], now_s: float) -> Path:
        """The folder of a new rollout's journal."""
        about = About(
            id=rollout_id("1.1.0", now_s),
            environment=ENVIRONMENT,
            model=model,
            candidate="1.1.0",
            stable="1.0.0",
            stages=tuple(stages),
            triggered_by=Trigger(kind="person", who="benchmark", proof="claimed"),
        )
        return journal.begin(self.top, about)


@contextmanager
def data_plane(top: Path) -> Iterator[DataPlane]:
    settings = Environment(address=f"127.0.0.1:{_free_address()}")
    stack = LocalStack(top, ENVIRONMENT, settings)
    try:
        stack.up()
        yield DataPlane(stack, top)
    finally:
        stack.down()


def rollout_ports(chosen: Adapters, folder: Path) -> Ports:
    return Ports(
        chosen.router,
        chosen.telemetry,
        chosen.reconciler,
        FileJournal(folder),
        FileRecord(folder),
        SystemClock(),
    )


def at_rest(model: str) -> Slots:
    """1.0.0 is stable."""
    return Slots(environment=ENVIRONMENT, model=model, stable=STABLE, releases={STABLE: _release("1.0.0")})


def handed_over(model: str) -> Slots:
    """And 1.1.0 is the candidate."""
    return at_rest(model).with_candidate(_release("1.1.0"))


def to_stable(chosen: Adapters) -> None:
    chosen.router.set_split(TrafficSplit.all_to(STABLE))


class FileRecord:
    """The Record port in a file; a line for each call, so that whoever reads sees what came twice."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ENDED

    def promote(self) -> None:
        append_line(self._path, {"ended": "promoted"})

    def reject(self, reason: str) -> None:
        append_line(self._path, {"ended": "rejected", "reason": reason})


def _process(model: str, server: Server) -> ProcessSpec:
    # The supervisor does not hold the port: a server that refuses connections must be able to.
    return ProcessSpec(
        name=f"{model}-{server.slot}",
        argv=tuple(command([server])),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        ready_url=f"http://127.0.0.1:{server.port}/v2/health/ready",
        grace_s=2.0,
    )


def _release(version: str) -> SlotRelease:
    return SlotRelease(version=version, commit="c" * 40, model_digest="d" * 64)


def _free_address() -> int:
    """Below the range from which a stack takes its own ports."""
    chance = random.SystemRandom()
    return next(port for port in chance.sample(range(10_000, 20_000), 500) if is_free("127.0.0.1", port))
