from __future__ import annotations

from datetime import datetime

import pytest

from coalmine.audit.deeds import Action
from coalmine.audit.ledger import Ledger, read_ledger
from coalmine.audit.questions.at import InFlight, serving
from coalmine.audit.questions.scope import Scope
from tests.audit.conftest import BAD, ENVIRONMENT, FIRST, GOOD, MODEL, World
from tests.audit.told import OTHER, PRODUCTION, SECOND, at
from tests.journals.fake_rollouts import write_rollout

LOCAL = Scope(MODEL, ENVIRONMENT)


def test_every_place_has_a_line_with_who_put_what_there(ledger: Ledger) -> None:
    lines = serving(ledger, Scope(), at(99_999))
    assert [
        (s.environment, s.model, s.version, s.since, s.until, s.action, s.who.who, s.who.proof) for s in lines
    ] == [
        ("local", MODEL, "1.0.0", at(10_000), None, "rolled-back", "Ada <ada@example.com>", "claimed"),
        (PRODUCTION, OTHER, "5.0.0", at(40_120), None, "promoted", "nightly schedule", "claimed"),
        (PRODUCTION, MODEL, "1.0.0", at(50_000), None, "unrecorded", "Sam <sam@example.com>", "claimed"),
    ]
    assert {s.release.version for s in lines} == {"1.0.0", "5.0.0"}


@pytest.mark.parametrize(
    ("after_s", "version", "since", "until"),
    [
        (-7080, "1.0.0", at(-7080), at(120)),
        (119, "1.0.0", at(-7080), at(120)),
        (120, "1.1.0", at(120), at(10_000)),
        (7_300, "1.1.0", at(120), at(10_000)),
        (99_999, "1.0.0", at(10_000), None),
    ],
    ids=[
        "at the first promotion",
        "just before",
        "at the promotion",
        "past a rejection",
        "after the roll-back",
    ],
)
def test_what_served_when(
    ledger: Ledger, after_s: float, version: str, since: datetime, until: datetime | None
) -> None:
    (line,) = serving(ledger, LOCAL, at(after_s))
    assert (line.version, line.since, line.until) == (version, since, until)


@pytest.mark.parametrize(
    ("after_s", "beside"),
    [
        (-1, None),
        (1, (GOOD.about.id, "1.1.0", 0)),
        (3, (GOOD.about.id, "1.1.0", 5)),
        (119, (GOOD.about.id, "1.1.0", 100)),
        (120, None),
        (7_204, (BAD.about.id, "2.0.0", 5)),
        (7_259, (BAD.about.id, "2.0.0", 0)),
        (99_999, None),
    ],
    ids=[
        "before",
        "starting",
        "entering stage 1",
        "baked",
        "recorded",
        "bad one in stage 1",
        "bad one off again",
        "long after",
    ],
)
def test_a_rollout_that_ran_then_is_told_with_its_recorded_weight(
    ledger: Ledger, after_s: float, beside: tuple[str, str, int] | None
) -> None:
    (line,) = serving(ledger, LOCAL, at(after_s))
    found = line.beside
    assert (None if found is None else (found.rollout, found.version, found.weight_percent)) == beside


def test_what_was_changed_by_hand_ends_what_served_before(ledger: Ledger) -> None:
    (line,) = serving(ledger, Scope(MODEL, PRODUCTION), at(49_999))
    assert (line.version, line.until, line.rollout) == ("1.1.0", at(50_000), SECOND.about.id)
    (line,) = serving(ledger, Scope(MODEL, PRODUCTION), at(50_000))
    assert (line.action, line.rollout) == (Action.UNRECORDED, None)


def test_a_place_where_nothing_served_yet_has_no_line(ledger: Ledger) -> None:
    assert [line.environment for line in serving(ledger, Scope(), at(0))] == ["local"]
    assert serving(ledger, Scope(), at(-7_081)) == []


def test_a_candidate_whose_rollout_has_not_started_is_beside_nothing(world: World) -> None:
    world.promote(FIRST)
    world.hand_over(GOOD, before_s=50)
    folder = write_rollout(world.top, GOOD)
    world.at(GOOD.started_at_s + 120)
    world.record(folder).promote()
    ledger = read_ledger(world.repository)
    for after_s, beside in ((-10, None), (1, InFlight(GOOD.about.id, "1.1.0", 0))):
        (line,) = serving(ledger, LOCAL, at(after_s))
        assert line.beside == beside
