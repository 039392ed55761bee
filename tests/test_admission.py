"""When a rollout may begin: rules, what Git says, and now; nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from coalmine.admission import Facts, Hold, Refusal, refusal
from coalmine.admission_spec import Admission

BERLIN = "Europe/Berlin"
SECOND = timedelta(seconds=1)
WEEKEND = {"from": "fri 16:00", "to": "mon 08:00", "reason": "nobody is here"}
TRADING = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "17:30"}
YEARS_END = {"from": "2026-12-18", "to": "2027-01-03", "reason": "year's end"}


def rules(**keys: Any) -> Admission:
    return Admission.model_validate({"time_zone": BERLIN, **keys})


def at(text: str, zone: str = BERLIN, fold: int = 0) -> datetime:
    """A wall clock time in `zone`."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def ask(asked: Admission, now: datetime, facts: Facts | None = None) -> Refusal | None:
    return refusal(asked, facts or Facts(), now)


# --- freezes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "first", "open_again"),
    [
        pytest.param(WEEKEND, "2026-11-27 16:00", "2026-11-30 08:00", id="a weekend"),
        pytest.param(TRADING, "2026-11-27 08:00", "2026-11-27 17:30", id="hours of some days"),
        pytest.param(
            {"days": ["fri"], "from": "22:00", "to": "06:00"},
            "2026-11-27 22:00",
            "2026-11-28 06:00",
            id="over midnight",
        ),
        pytest.param(
            {"days": ["sun"], "from": "00:00", "to": "24:00"},
            "2026-11-29 00:00",
            "2026-11-30 00:00",
            id="a whole day",
        ),
        pytest.param(YEARS_END, "2026-12-18 00:00", "2027-01-04 00:00", id="dates, the last one too"),
        pytest.param(
            {"from": "2026-12-24", "to": "2026-12-24"}, "2026-12-24 00:00", "2026-12-25 00:00", id="one date"
        ),
        pytest.param(
            {"from": "2026-12-18 18:00", "to": "2026-12-19 06:30"},
            "2026-12-18 18:00",
            "2026-12-19 06:30",
            id="moments",
        ),
        # The clock goes from 02:00 to 03:00 on 29 March 2026, and from 03:00 to 02:00 on 25 October.
        pytest.param(
            {"from": "sat 22:00", "to": "sun 06:00"},
            "2026-03-28 22:00",
            "2026-03-29 06:00",
            id="7 hours, in March",
        ),
        pytest.param(
            {"from": "sat 22:00", "to": "sun 06:00"},
            "2026-10-24 22:00",
            "2026-10-25 06:00",
            id="9 hours, in October",
        ),
    ],
)
def test_a_freeze_is_from_its_first_second_to_its_last(
    freeze: dict[str, Any], first: str, open_again: str
) -> None:
    asked = rules(freezes=[freeze])
    assert ask(asked, at(first) - SECOND) is None
    for moment in (at(first), at(open_again) - SECOND):
        no = ask(asked, moment)
        assert no is not None
        assert no.until == at(open_again)
        assert "freeze" in no.reasons[0]
    assert ask(asked, at(open_again)) is None


@pytest.mark.parametrize(
    ("freeze", "begins", "ends"),
    [
        # 02:30 is twice, at 00:30 and at 01:30 UTC.
        pytest.param(
            ("sun 02:30", "sun 04:00"), "2026-10-25 00:30", "2026-10-25 03:00", id="begins the first time"
        ),
        pytest.param(
            ("sun 01:00", "sun 02:30"), "2026-10-24 23:00", "2026-10-25 01:30", id="ends the last time"
        ),
        # 02:30 is never: the hour before it is, and the hour after.
        pytest.param(("sun 02:30", "sun 04:00"), "2026-03-29 00:30", "2026-03-29 02:00", id="begins earlier"),
        pytest.param(("sun 01:00", "sun 02:30"), "2026-03-29 00:00", "2026-03-29 01:30", id="ends later"),
    ],
)
def test_where_the_clock_changes_a_freeze_is_never_shorter_than_it_reads(
    freeze: tuple[str, str], begins: str, ends: str
) -> None:
    asked = rules(freezes=[{"from": freeze[0], "to": freeze[1]}])
    first, open_again = at(begins, "UTC"), at(ends, "UTC")
    assert ask(asked, first - SECOND) is None
    for moment in (first, open_again - SECOND):
        no = ask(asked, moment)
        assert no is not None
        assert no.until == open_again
    assert ask(asked, open_again) is None


def test_freezes_that_overlap_or_touch_are_one_to_whoever_waits() -> None:
    christmas = {"from": "2026-12-21 08:00", "to": "2026-12-25 16:00"}  # from one weekend's end to the next
    no = ask(rules(freezes=[WEEKEND, christmas, YEARS_END]), at("2026-12-19 12:00"))
    assert no is not None
    assert no.until == at("2027-01-04 08:00")  # the year's end, and the weekend around its last day
    assert len(no.reasons) == 2
    assert "fri 16:00 to mon 08:00 Europe/Berlin: nobody is here" in no.reasons[0]
    assert "year's end" in no.reasons[1]


def test_one_rule_and_moment_has_one_answer_in_whichever_zone_it_is_asked() -> None:
    asked = rules(freezes=[WEEKEND])
    moment = at("2026-11-27 17:00")
    answers = {str(ask(asked, moment.astimezone(ZoneInfo(zone)))) for zone in ("UTC", "Asia/Tokyo", BERLIN)}
    assert len(answers) == 1


# --- after -----------------------------------------------------------------------------

AFTER = {"environment": "staging", "held_for": "24h"}
SINCE = datetime(2026, 3, 28, 12, tzinfo=UTC)  # the night in which the clock changes
DAY = timedelta(days=1)


def test_a_release_goes_once_it_has_held_by_the_clock_that_never_changes() -> None:
    asked, facts = rules(after=AFTER), Facts(Hold(SINCE))
    assert ask(asked, SINCE + DAY, facts) is None
    for moment in (SINCE, SINCE + DAY - SECOND):
        no = ask(asked, moment, facts)
        assert no is not None
        assert no.until == SINCE + DAY
        assert (
            "is stable in staging since Sat 2026-03-28 13:00:00 CET, and has to hold there for 24 h"
            in no.reasons[0]
        )


@pytest.mark.parametrize(
    ("hold", "says"),
    [
        pytest.param(None, "has not been stable in staging", id="never there"),
        pytest.param(
            Hold(SINCE, SINCE + 2 * DAY), "taken away from staging", id="rolled back after it had held"
        ),
        pytest.param(
            Hold(SINCE, SINCE + timedelta(hours=23, minutes=30), superseded=True),
            "held in staging for 23 h 30 min of 24 h, and was superseded",
            id="superseded too early",
        ),
    ],
)
def test_what_no_time_alone_helps_says_so(hold: Hold | None, says: str) -> None:
    no = ask(rules(after=AFTER), SINCE + 9 * DAY, Facts(hold))
    assert no is not None
    assert no.until is None
    assert says in no.reasons[0]


def test_what_had_held_when_a_newer_release_superseded_it_may_go() -> None:
    assert ask(rules(after=AFTER), SINCE + 9 * DAY, Facts(Hold(SINCE, SINCE + DAY, superseded=True))) is None


def test_the_short_form_asks_for_stable_alone() -> None:
    assert rules(after="staging") == rules(after={"environment": "staging"})
    assert ask(rules(after="staging"), SINCE, Facts(Hold(SINCE))) is None


# --- releases per day ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "noon", "tomorrow"),
    [
        pytest.param(BERLIN, "2026-11-27 12:00", "2026-11-27 23:00", id="an hour before UTC"),
        pytest.param(BERLIN, "2026-10-25 12:00", "2026-10-25 23:00", id="a day of 25 hours"),
        pytest.param(BERLIN, "2026-03-29 12:00", "2026-03-29 22:00", id="a day of 23 hours"),
        # There the clock goes from midnight to 01:00: the day of the change begins at 01:00.
        pytest.param("Africa/Cairo", "2026-04-23 12:00", "2026-04-23 22:00", id="a day without midnight"),
    ],
)
def test_a_day_is_that_of_the_zones_calendar(zone: str, noon: str, tomorrow: str) -> None:
    asked = rules(releases_per_day=2, time_zone=zone)
    midnight, ends = at(f"{noon[:10]} 00:00", zone).astimezone(UTC), at(tomorrow, "UTC")
    of_the_day = (midnight, ends - SECOND)
    no = ask(asked, at(noon, zone), Facts(begun=of_the_day))
    assert no is not None
    assert no.until == ends
    assert "2 of 2" in no.reasons[0]
    assert ask(asked, ends, Facts(begun=of_the_day)) is None
    assert ask(asked, at(noon, zone), Facts(begun=(midnight - SECOND, of_the_day[1], ends))) is None


def test_every_rule_that_refuses_is_told_and_the_next_time_fits_them_all() -> None:
    asked = rules(after=AFTER, freezes=[WEEKEND], releases_per_day=1)
    now = at("2026-11-27 10:00")  # a Friday
    no = ask(asked, now, Facts(Hold(now - timedelta(hours=12)), (now,)))
    assert no is not None
    assert len(no.reasons) == 2  # it is no weekend yet
    assert no.until == at("2026-11-30 08:00")  # and will be, when it has held


# --- the law ---------------------------------------------------------------------------

ZONES = st.sampled_from(
    [BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata"]
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
CLOCKS = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda each: f"{each[0]:02}:{each[1]:02}")
DAYS = st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])
EDGES = st.one_of(
    st.tuples(CLOCKS, CLOCKS, st.lists(DAYS, min_size=1, max_size=7, unique=True)),
    st.tuples(st.tuples(DAYS, CLOCKS).map(" ".join), st.tuples(DAYS, CLOCKS).map(" ".join), st.just([])),
    st.tuples(MOMENTS, MOMENTS, st.just([])).map(
        lambda each: (*sorted(str(moment.replace(tzinfo=None)) for moment in each[:2]), each[2])
    ),
)
FREEZES = st.lists(EDGES.map(lambda edge: {"from": edge[0], "to": edge[1], "days": edge[2]}), max_size=4)
HOLDS = st.one_of(st.none(), MOMENTS.map(Hold))


@given(ZONES, FREEZES, st.integers(0, 100), HOLDS, st.lists(MOMENTS, max_size=6), MOMENTS, st.data())
def test_the_next_possible_time_is_the_first_one_at_which_it_may_go(
    zone: str,
    freezes: list[dict[str, Any]],
    hours: int,
    hold: Hold | None,
    begun: list[datetime],
    now: datetime,
    data: st.DataObject,
) -> None:
    keys: dict[str, Any] = {"freezes": freezes, "releases_per_day": 1, "time_zone": zone}
    if hold is not None:
        keys["after"] = {"environment": "staging", "held_for": f"{hours}h"}
    try:
        asked = Admission.model_validate(keys)
    except ValidationError:
        assume(False)  # nothing would be left of a week, or of a freeze
    facts = Facts(hold, tuple(begun))
    no = refusal(asked, facts, now)
    if no is None:
        return
    assert no.until is not None
    assert no.until > now
    assert refusal(asked, facts, no.until) is None
    before = data.draw(st.integers(1, int((no.until - now).total_seconds()))) * SECOND
    for earlier in (no.until - SECOND, no.until - before):
        told = refusal(asked, facts, earlier)
        assert told is not None
        assert told.until == no.until
