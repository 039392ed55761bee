"""Whether a rollout of a release may begin in an environment now, or why not, and from when on.

Pure: rules, what Git says, and now. Where a release stands in the environment itself (it serves there, it was
turned away there) is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from coalmine.admission_spec import WEEK, Admission, After, Window


@dataclass(frozen=True)
class Hold:
    """The last time for which a release, by digest, was stable somewhere, without interruption.

    until: None while it is. superseded: it ended since another release was promoted there; else the release
    was taken away.
    """

    since: datetime
    until: datetime | None = None
    superseded: bool = False


@dataclass(frozen=True)
class Facts:
    """hold: in the environment of `after`; None: it was never stable there. begun: when rollouts began here,
    of all models, in no order."""

    hold: Hold | None = None
    begun: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """reasons: sentences for people. until: the first moment at which the same facts let it begin; None: no
    time alone helps."""

    reasons: tuple[str, ...]
    until: datetime | None


@dataclass(frozen=True)
class _No:
    """What one rule says. until: it says so up to then, without a gap; None: for good."""

    reason: str
    until: datetime | None


def refusal(rules: Admission, facts: Facts, now: datetime) -> Refusal | None:
    """None: it may begin. now: with a zone."""
    now = now.astimezone(UTC)
    reasons = tuple(no.reason for no in _refusing(rules, facts, now))
    if not reasons:
        return None
    # Each step goes as far as a rule refuses without a gap, so that the first moment without one is found.
    # It comes to an end: a week of freezes has an open minute, and every rollout has begun on some day.
    at: datetime | None = now
    while at is not None and (no := next(_refusing(rules, facts, at), None)) is not None:
        at = no.until
    return Refusal(reasons, at)


def _refusing(rules: Admission, facts: Facts, at: datetime) -> Iterator[_No]:
    if rules.after is not None:
        yield from _not_held(rules.after, facts.hold, rules.zone, at)
    yield from _frozen(rules, at)
    if rules.releases_per_day is not None:
        yield from _enough_for_a_day(rules.releases_per_day, rules.zone, facts.begun, at)


def in_zone(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}"


# --- after -----------------------------------------------------------------------------


def _not_held(after: After, hold: Hold | None, zone: ZoneInfo, at: datetime) -> Iterator[_No]:
    where = after.environment
    if hold is None:
        yield _No(f"it has not been stable in {where}", None)
    elif hold.until is None:
        ready = hold.since.astimezone(UTC) + after.held_for
        if at < ready:
            since = f"is stable in {where} since {in_zone(hold.since, zone)}"
            yield _No(f"it {since}, and has to hold there for {_spell(after.held_for)}", ready)
    elif not hold.superseded:
        yield _No(f"it was taken away from {where} on {in_zone(hold.until, zone)}", None)
    elif hold.until - hold.since < after.held_for:
        held = f"held in {where} for {_spell(hold.until - hold.since)} of {_spell(after.held_for)}"
        yield _No(f"it {held}, and was superseded there", None)


def _spell(length: timedelta) -> str:
    hours, seconds = divmod(round(length.total_seconds()), 3600)
    parts = {"h": hours, "min": seconds // 60, "s": seconds % 60}
    return " ".join(f"{number} {unit}" for unit, number in parts.items() if number) or "0 s"


# --- freezes ---------------------------------------------------------------------------


def _frozen(rules: Admission, at: datetime) -> Iterator[_No]:
    for freeze in rules.freezes:
        ends = [end for window in freeze.windows for end in _ends(window, rules.zone, at)]
        if ends:
            because = f": {freeze.reason}" if freeze.reason else ""
            yield _No(f"there is a freeze, {freeze} {rules.time_zone}{because}", max(ends))


def _ends(window: Window, zone: ZoneInfo, at: datetime) -> Iterator[datetime]:
    """When each occurrence of `window` ends that `at` lies in."""
    weeks = (at.astimezone(zone).replace(tzinfo=None) - window.start) // WEEK if window.weekly else 0
    # Its neighbours too: a change of the clock can draw them nearer.
    for week in (weeks - 1, weeks, weeks + 1) if window.weekly else (0,):
        if min(_readings(window.start + week * WEEK, zone)) <= at:
            end = max(_readings(window.end + week * WEEK, zone))
            if at < end:
                yield end


def _readings(wall_clock: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The moment that is meant: twice the same, but for a time that a change of the clock shows twice or
    skips. Of the two, what freezes for longer counts."""
    first, second = (wall_clock.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first, second


# --- releases per day ------------------------------------------------------------------


def _enough_for_a_day(most: int, zone: ZoneInfo, begun: tuple[datetime, ...], at: datetime) -> Iterator[_No]:
    today = at.astimezone(zone).date()
    count = sum(moment.astimezone(zone).date() == today for moment in begun)
    if count >= most:
        tomorrow = datetime.combine(today + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
        yield _No(f"{count} of {most} releases a day have begun on {today} ({zone.key})", tomorrow)
