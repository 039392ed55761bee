"""What the rollout tests share: a quick plan, a world that is rolled out in, and a person who asks."""

from __future__ import annotations

from typing import Any

from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Ask, Request, TrafficSplit
from coalmine.rollout.runner import run
from coalmine.rollout.state import RolloutState
from coalmine.rollout_spec import Rollout
from coalmine.slots import Slot
from tests.simulators.world import World, upgrade_slots

BEFORE_S = 30.0  # stable serves alone for so long
GATES: tuple[dict[str, Any], ...] = (
    {"gate": "errors", "margin": 0.01},
    {"gate": "latency", "margin": 0.05},
)


def plan(*gates: dict[str, Any], **changes: Any) -> Plan:
    """A quick plan; `gates` come after errors and latency."""
    content: dict[str, Any] = {
        "bake_s": 20,
        "hold_budget_s": 900,
        "no_data_budget_s": 60,
        "progress_deadline_s": 30,
        "gates": [*GATES, *gates],
        **changes,
    }
    return Plan.of(Rollout.model_validate(content))


def upgrade(world: World, plan: Plan, **how: Any) -> RolloutState:
    """Roll 1.1.0 (green) out beside 1.0.0 (blue), which serves everybody."""
    if world.router.split is None:
        world.router.split = TrafficSplit.all_to(Slot.BLUE)
        world.pass_time(BEFORE_S)
    return run(plan, upgrade_slots(), world.ports(), **how)


def ask(world: World, what: Ask, who: str = "Mia") -> None:
    world.journal.asked.append(Request(what, who, world.now))


def weight(world: World) -> int:
    assert world.router.split is not None
    return world.router.split.weights[Slot.GREEN]
