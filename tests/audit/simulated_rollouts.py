"""Rollout folders as the real runner leaves them after simulated traffic."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from coalmine.journals.journal import FileJournal, begin, keep_plan
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Request, TrafficSplit
from coalmine.rollout.runner import run
from coalmine.rollout_spec import (
    AgreementSpec,
    ApprovalSpec,
    ErrorsSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    QuerySpec,
    Rollout,
    Shadow,
    Users,
)
from coalmine.slots import Slot
from tests.journals.fake_rollouts import FakeRollout
from tests.simulators.world import SimulatedCheck, World, upgrade_slots

SHORT = Rollout(stages=(5, 25, 50), bake_s=10, gates=(ErrorsSpec(margin=0.02), LatencySpec(margin=0.05)))
# Every kind of gate at once, one of them a dry run.
EVERYTHING = Rollout(
    shadow=Shadow(percent=100),
    stages=(10, 50),
    bake_s=20,
    gates=(
        ErrorsSpec(margin=0.02),
        LatencySpec(margin=0.05),
        PredictionsSpec(margin=0.05, dry_run=True),
        QualitySpec(margin=0.05),
        AgreementSpec(at_most=0.02),
        QuerySpec(name="memory", query="memory{slot='$slot'}", at_most=600),
        ApprovalSpec(before="bake"),
    ),
)
CHOSEN_USERS = Rollout(
    strategy="ab",
    users=Users(header="x-group", value="beta"),
    bake_s=10,
    gates=(ErrorsSpec(margin=0.02), LatencySpec(margin=0.05)),
)


def simulate(repository: Path, spec: Rollout, world: World, fake: FakeRollout | None = None) -> Path:
    """Roll out on `world` and give the rollout's folder. Whoever must approve does so half a minute on."""
    folder = begin(repository, (fake or FakeRollout()).about)
    journal = FileJournal(folder)
    plan = keep_plan(folder, Plan.of(spec))
    world.router.split = TrafficSplit.all_to(Slot.BLUE)
    world.pass_time(30)
    for gate in spec.gates:
        if isinstance(gate, QuerySpec):
            world.checks.setdefault(gate.name or gate.gate, SimulatedCheck())
        if isinstance(gate, ApprovalSpec):
            _approve_when_asked(world, journal, folder)
    run(plan, upgrade_slots(), dataclasses.replace(world.ports(), journal=journal), asked_by="Kim")
    return folder


def _approve_when_asked(world: World, journal: FileJournal, folder: Path) -> None:
    def look() -> None:
        if "needs_approval" in (folder / "events.jsonl").read_text():
            journal.ask(Request(Ask.APPROVE, "Mia <mia@example.org>", world.now))
        else:
            world.at(world.now - 1_000_000 + 30, look)

    world.at(60, look)
