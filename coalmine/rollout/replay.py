"""A rollout again, from what was seen: the same ticks and the same plan give the same decisions.

The runner itself decides by `fold` here, so there is no second set of rules that could differ. With
another plan, the fold says what that one would have made of the same observations, for as long as it
would have had the users in the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from coalmine.errors import IntegrityError
from coalmine.rollout import engine
from coalmine.rollout.decision import Decision
from coalmine.rollout.plan import Plan
from coalmine.rollout.state import RolloutState
from coalmine.rollout.ticks import Happening, Tick


@dataclass(frozen=True)
class Step:
    """One tick and what was decided on it; `decision.state` is the state after it."""

    tick: Tick
    decision: Decision


def fold(plan: Plan, state: RolloutState | None, tick: Tick) -> Decision:
    """What `tick` makes of `state`, None before the first."""
    decision = _decide(plan, state, tick)
    return replace(decision, state=replace(decision.state, ticks=tick.sequence + 1))


def replay(plan: Plan, ticks: Iterable[Tick]) -> Iterator[Step]:
    """Every decision, in order.

    Raises:
        IntegrityError: the ticks do not begin with a beginning, or some are missing.
    """
    state: RolloutState | None = None
    for number, tick in enumerate(ticks):
        if tick.sequence != number or (state is None) != (tick.what is Happening.BEGUN):
            raise IntegrityError(
                f"the rollout's ticks cannot be replayed: number {number} is missing or out of place. "
                "Take them from the closing commit, or from a copy of the journal."
            )
        step = Step(tick, fold(plan, state, tick))
        state = step.decision.state
        yield step


def _decide(plan: Plan, state: RolloutState | None, tick: Tick) -> Decision:
    if tick.what is Happening.BEGUN:
        begun = tick.beginning
        assert begun is not None
        fresh = RolloutState.begin(begun.candidate, has_stable=begun.has_stable, now_s=tick.at_s)
        return engine.begin(plan, fresh, tick.at_s, begun.asked_by, begun.again)
    assert state is not None
    match tick.what:
        case Happening.SEEN:
            assert tick.seen is not None
            return engine.decide(plan, state, tick.seen, tick.at_s)
        case Happening.RESUMED:
            return engine.resumed(state)
        case Happening.UNROUTED:
            return engine.unrouted(state, tick.why, tick.at_s)
        case Happening.RECORDED:
            return engine.recorded(state, tick.at_s)
        case Happening.UNRECORDED:
            return engine.unrecorded(state, tick.why, tick.at_s)
        case other:
            assert_never(other)
