from __future__ import annotations

import pytest

from coalmine.audit.situation import Situation, next_steps, standing
from coalmine.rollout.events import Event, EventKind
from tests.journals.fake_rollouts import FakeRollout

K = EventKind


def story(*kinds: EventKind) -> list[Event]:
    return [Event(number, float(number), kind, f"{kind}.", 5) for number, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kinds", "situation", "waits_for"),
    [
        ((), Situation.GOING_ON, ""),
        ((K.STARTED, K.STAGE_STARTED), Situation.GOING_ON, ""),
        ((K.STAGE_STARTED, K.HELD), Situation.HELD, "held."),
        ((K.HELD, K.MEASURED_AGAIN), Situation.GOING_ON, ""),
        ((K.HELD, K.STAGE_STARTED), Situation.GOING_ON, ""),
        ((K.HELD, K.PAUSED), Situation.PAUSED, "paused."),
        ((K.PAUSED, K.RESUMED), Situation.GOING_ON, ""),
        ((K.NEEDS_APPROVAL, K.HELD), Situation.NEEDS_APPROVAL, "needs_approval."),
        ((K.NEEDS_APPROVAL, K.APPROVED), Situation.GOING_ON, ""),
        ((K.NEEDS_APPROVAL, K.BAKE_STARTED), Situation.GOING_ON, ""),
        ((K.HELD, K.ROLLING_BACK), Situation.RECORDING, ""),
        ((K.ROLLING_BACK, K.HELD), Situation.RECORDING, "held."),
        ((K.PROMOTING, K.PROMOTED), Situation.PROMOTED, ""),
        ((K.ROLLING_BACK, K.ROLLED_BACK), Situation.ROLLED_BACK, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_a_rollout_waits_for(kinds: tuple[EventKind, ...], situation: Situation, waits_for: str) -> None:
    stands = standing(story(*kinds))
    assert (stands.situation, stands.sentence) == (situation, waits_for)


@pytest.mark.parametrize(
    ("situation", "first"),
    [
        (Situation.NEEDS_APPROVAL, "coalmine approve flight-delay -e production"),
        (Situation.PAUSED, "coalmine resume flight-delay -e production"),
        (Situation.HELD, "coalmine report flight-delay -e production"),
        (Situation.PROMOTED, "coalmine rollback flight-delay -e production"),
    ],
)
def test_what_to_type_comes_with_the_environment(situation: Situation, first: str) -> None:
    about = FakeRollout(environment="production").about
    assert next_steps(about, situation)[0].command == first
    assert next_steps(FakeRollout().about, situation)[0].command == first.removesuffix(" -e production")


def test_after_a_first_release_there_is_nothing_to_go_back_to() -> None:
    about = FakeRollout(stable_version=None).about
    commands = [step.command for step in next_steps(about, Situation.PROMOTED)]
    assert commands == ["coalmine audit flight-delay"]


@pytest.mark.parametrize("situation", list(Situation))
def test_everybody_is_told_something_to_type(situation: Situation) -> None:
    assert next_steps(FakeRollout().about, situation)
