"""A cluster in memory, and machines that drive rollouts there, each with a clone of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from coalmine.cluster.lease import Terms
from coalmine.durable import read_lines
from coalmine.journals.cluster_journal import ClusterJournal
from coalmine.journals.cluster_rollouts import ClusterRollouts
from coalmine.journals.journal import TICKS, begin, keep_plan, read_events
from coalmine.registry.repository import Repository
from coalmine.rollout.plan import Plan
from coalmine.rollout_spec import Rollout
from coalmine.settings import GitSettings
from tests.journals.fake_rollouts import FakeRollout
from tests.simulators.api_server import StateClient, StateServer

FAKE = FakeRollout(environment="production")
MODEL = FAKE.model
QUICK = Terms(lasts_s=0.3, renewed_every_s=0.05, look_every_s=0.02)


@dataclass
class Machine:
    """One clone on one machine, with its own way to the API server."""

    top: Path
    cluster: StateClient
    terms: Terms = QUICK

    @property
    def rollouts(self) -> ClusterRollouts:
        """Each time as another process has them."""
        repository = Repository(self.top, None)  # type: ignore[arg-type]  # Git is not asked
        return ClusterRollouts(self.cluster, repository, GitSettings(), "production", self.terms)

    def folder(self, fake: FakeRollout) -> Path:
        about = fake.about
        return self.top / ".coalmine/rollouts/production" / about.model / about.id

    def journal(self, fake: FakeRollout) -> ClusterJournal:
        return self.rollouts.journal(self.folder(fake))

    def publish(self, fake: FakeRollout) -> Path:
        folder = begin(self.top, fake.about)
        keep_plan(folder, Plan.of(Rollout()))
        self.rollouts.publish(folder)
        return folder


@dataclass
class Place:
    """A cluster, and as many machines as somebody asks for."""

    tmp_path: Path
    server: StateServer = field(default_factory=StateServer)
    machines: list[Machine] = field(default_factory=list)

    def machine(self) -> Machine:
        self.machines.append(Machine(self.tmp_path / f"machine-{len(self.machines)}", self.server.client()))
        return self.machines[-1]


def told_in(folder: Path) -> tuple[list[int], list[int]]:
    ticks = [line["sequence"] for line in read_lines(folder / TICKS)[0]]
    return ticks, [event.sequence for event in read_events(folder)]


def awaited(condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until_s, what
        time.sleep(0.01)
