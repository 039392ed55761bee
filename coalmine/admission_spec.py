"""When an environment of coalmine.yaml takes a release: after another one, in no freeze, so many a day.

Without these keys it takes what it is given. docs/environments.md explains each key; the rules are in
coalmine/admission.py.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BeforeValidator, Field, field_validator, model_validator

from coalmine.strict import Spec

WEEK = timedelta(days=7)

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_A_MONDAY = datetime(2024, 1, 1)
_YEARS = range(1970, 3000)  # beyond them some zone has no such moment
_CLOCK = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)")
_LENGTH = re.compile(r"(?P<number>\d{1,5})(?P<unit>[smhd])")
_UNITS = {"s": timedelta(seconds=1), "m": _MINUTE, "h": timedelta(hours=1), "d": _DAY}
_EDGES = "`16:00` with `days`, `fri 16:00`, `2026-12-18` or `2026-12-18 16:00`"


class Day(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"

    @property
    def number(self) -> int:
        """Monday is 0."""
        return list(Day).index(self)


# --- after -----------------------------------------------------------------------------


def _length(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _LENGTH.fullmatch(str(value))
    if match is None:
        raise ValueError("give a number with its unit, s, m, h or d: `90m`, `24h`, `7d`")
    return int(match["number"]) * _UNITS[match["unit"]]


Length = Annotated[timedelta, BeforeValidator(_length, json_schema_input_type=str)]


class After(Spec):
    """environment: where a release must have been stable before. held_for: how long, without interruption."""

    environment: str
    held_for: Length = Field(timedelta(0), json_schema_extra={"default": "0s"})


def _in_full(value: object) -> object:
    return {"environment": value} if isinstance(value, str) else value


AfterOrName = Annotated[After | None, BeforeValidator(_in_full, json_schema_input_type=After | str | None)]


# --- freezes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """From `start` until before `end`, by the wall clock of the environment's zone: both without one.

    weekly: `start` is in some week, and so it is every week.
    """

    start: datetime
    end: datetime
    weekly: bool


def _as_written(value: object) -> object:
    """An edge as the text that its writer sees: YAML 1.1 reads 16:00 as a number to the base of 60, and
    dates as such."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return f"{value // 60:02}:{value % 60:02}"
    return str(value) if isinstance(value, date) else value


Edge = Annotated[str, BeforeValidator(_as_written)]


class Freeze(Spec):
    """A time in which no rollout begins.

    from, to: of the same kind, `to` excluded: `16:00` on each of `days`, where a `to` that is earlier than
        `from` is on the day after; `fri 16:00`, every week; `2026-12-18` or `2026-12-18 16:00`, once, where
        a date alone is the whole day, the last one too.
    reason: for whoever is refused.
    """

    start: Edge = Field(alias="from")
    end: Edge = Field(alias="to")
    days: tuple[Day, ...] = ()
    reason: str = ""

    @model_validator(mode="after")
    def _edges_that_go_together(self) -> Freeze:
        _ = self.windows
        return self

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        if self.days:
            start, end = _clock(self.start), _clock(self.end, is_end=True)
            if start == end:
                raise ValueError("`from` and `to` are the same: for a whole day write `00:00` and `24:00`")
            end += _DAY if end < start else timedelta(0)
            mornings = [_A_MONDAY + day.number * _DAY for day in self.days]
            return tuple(Window(morning + start, morning + end, weekly=True) for morning in mornings)
        if _is_weekly(self.start) and _is_weekly(self.end):
            start_at, end_at = _in_week(self.start), _in_week(self.end, is_end=True)
            if start_at == end_at:
                raise ValueError("`from` and `to` are the same: nothing would ever begin")
            end_at += WEEK if end_at < start_at else timedelta(0)
            return (Window(start_at, end_at, weekly=True),)
        once = Window(_moment(self.start), _moment(self.end, is_end=True), weekly=False)
        if once.end <= once.start:
            raise ValueError("`to` is not later than `from`")
        return (once,)

    def __str__(self) -> str:
        return " ".join(filter(None, (", ".join(self.days), f"{self.start} to {self.end}")))


def _is_weekly(text: str) -> bool:
    return text[:3].lower() in set(Day)


def _in_week(text: str, *, is_end: bool = False) -> datetime:
    return _A_MONDAY + Day(text[:3].lower()).number * _DAY + _clock(text[3:].strip(), is_end=is_end)


def _clock(text: str, *, is_end: bool = False) -> timedelta:
    """Since midnight; 24:00 is an end alone."""
    match = _CLOCK.fullmatch(text)
    if match is not None:
        found = timedelta(hours=int(match["hour"]), minutes=int(match["minute"]))
        if found < _DAY or (is_end and found == _DAY):
            return found
    raise ValueError(f"`{text}` is no time of a day. Write `from` and `to` as {_EDGES}")


def _moment(text: str, *, is_end: bool = False) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"`{text}` is not understood here. Write `from` and `to` as {_EDGES}") from error
    if moment.tzinfo is not None:
        raise ValueError(
            f"`{text}` has a zone of its own: give the local time, and `time_zone` beside `freezes`"
        )
    if moment.year not in _YEARS:
        raise ValueError(f"`{text}` is in no year from {_YEARS[0]} to {_YEARS[-1]}")
    is_whole_day = len(text) == len("2026-12-18")
    return moment + _DAY if is_end and is_whole_day else moment


def _every_minute_of_a_week(freezes: tuple[Freeze, ...]) -> bool:
    """Whether the weekly ones leave nothing open."""
    weekly = [window for freeze in freezes for window in freeze.windows if window.weekly]
    frozen = {
        (minute + int((window.start - _A_MONDAY) / _MINUTE)) % int(WEEK / _MINUTE)
        for window in weekly
        for minute in range(int((window.end - window.start) / _MINUTE))
    }
    return len(frozen) == WEEK / _MINUTE


# --- an environment --------------------------------------------------------------------


class Admission(Spec):
    """
    after: an environment, or `{environment: staging, held_for: 24h}`: a release comes here once it, by
        digest, has been stable there for so long, and was not turned away there.
    freezes: no rollout begins in them; one that began before goes on.
    releases_per_day: how many rollouts, of all models, begin here in a calendar day at most.
    time_zone: whose clock and calendar these mean, such as Europe/Berlin.
    """

    after: AfterOrName = None
    freezes: tuple[Freeze, ...] = ()
    releases_per_day: int | None = Field(None, ge=1)
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _a_zone_that_is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            near = difflib.get_close_matches(value, available_timezones(), n=1)
            remedy = f"did you mean `{near[0]}`?" if near else "give one such as Europe/Berlin"
            raise ValueError(f"unknown time zone `{value}`: {remedy}") from error
        return value

    @field_validator("freezes")
    @classmethod
    def _something_is_left(cls, value: tuple[Freeze, ...]) -> tuple[Freeze, ...]:
        if _every_minute_of_a_week(value):
            raise ValueError("together they leave no minute of a week, so that nothing would ever begin")
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def asks_for_something(self) -> bool:
        return self.after is not None or bool(self.freezes) or self.releases_per_day is not None
