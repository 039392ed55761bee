from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.notifications.notices import HELD_FOR_S, Told, due
from coalmine.rollout.events import Event, EventKind
from tests.journals.fake_rollouts import FakeRollout

ABOUT = FakeRollout().about
PAGE = Path("/somewhere/report.html")
K = EventKind


def story(*told: tuple[float, EventKind]) -> list[Event]:
    return [Event(number, at, kind, f"{kind} at {at:g}", 5) for number, (at, kind) in enumerate(told)]


def words(events: list[Event], now_s: float) -> list[str]:
    return [
        f"{notice.told}{' over' if notice.over else ''} {notice.sequence}"
        for notice in due(ABOUT, events, PAGE, now_s).notices
    ]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (story((0, K.STARTED), (1, K.CANDIDATE_READY), (2, K.STAGE_STARTED)), ["started 0", "advanced 2"]),
        (story((0, K.BAKE_STARTED), (1, K.PROMOTING), (2, K.PROMOTED)), ["advanced 0", "promoted 2"]),
        (story((0, K.ROLLING_BACK)), ["rolled-back 0"]),
        (story((0, K.ROLLING_BACK), (9, K.ROLLED_BACK)), ["rolled-back 0"]),
        (story((0, K.NEEDS_APPROVAL)), ["needs-you 0"]),
        (story((0, K.NEEDS_APPROVAL), (5, K.APPROVED)), ["needs-you 0", "needs-you over 1"]),
        (story((0, K.HELD), (59, K.MEASURED_AGAIN)), []),
        (story((0, K.HELD), (60, K.MEASURED_AGAIN)), ["held 0", "held over 1"]),
        (story((0, K.HELD), (70, K.ROLLING_BACK)), ["held 0", "rolled-back 1"]),
        (story((0, K.HELD), (30, K.HELD), (61, K.MEASURED_AGAIN)), ["held 0", "held over 2"]),
    ],
    ids=[
        "a stage",
        "a promotion, when it is recorded",
        "a rollback, when it is decided",
        "a rollback, once",
        "an approval that is waited for",
        "an approval that came",
        "a short hold, not at all",
        "a long hold, and its end",
        "a hold that ends the rollout",
        "a hold whose reason changes, once",
    ],
)
def test_people_are_told_of(events: list[Event], told: list[str]) -> None:
    assert words(events, now_s=10_000) == told


def test_a_hold_is_told_once_it_has_lasted_and_a_look_is_due_then() -> None:
    events = story((100, K.HELD))
    early = due(ABOUT, events, PAGE, now_s=101)
    assert (early.notices, early.again_s) == ((), 100 + HELD_FOR_S)
    late = due(ABOUT, events, PAGE, now_s=100 + HELD_FOR_S)
    assert [notice.told for notice in late.notices] == [Told.HELD]
    assert late.again_s is None


def test_a_hold_is_told_in_its_newest_words() -> None:
    events = story((0, K.HELD), (50, K.HELD))
    assert due(ABOUT, events, PAGE, now_s=70).notices[0].sentence == "held at 50"


def test_each_notice_says_what_to_type() -> None:
    events = story((0, K.STARTED), (1, K.NEEDS_APPROVAL), (2, K.HELD), (90, K.ROLLING_BACK))
    notices = {notice.told: notice for notice in due(ABOUT, events, PAGE, 99).notices}
    assert notices[Told.NEEDS_YOU].steps[0].command == "coalmine approve flight-delay"
    assert "coalmine abort flight-delay" in [step.command for step in notices[Told.HELD].steps]
    assert notices[Told.ROLLED_BACK].title == "flight-delay 1.1.0 in local: rolled back"
