"""Numbers and moments in words that fit a table and a sentence."""

from __future__ import annotations

from datetime import UTC, datetime


def requests(count: int) -> str:
    return "request" if count == 1 else "requests"


def rounded(count: float) -> str:
    return f"{count:.1f}" if 0 < count < 9.95 else f"{count:,.0f}"


def duration(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def percent(share: float) -> str:
    """Two digits that matter, never "0 %" for what did happen, and no line break inside."""
    if share == 0:
        return "0\N{NO-BREAK SPACE}%"
    digits = f"{share * 100:.1f}" if share >= 0.0995 else f"{share * 100:#.2g}"
    return f"{digits}\N{NO-BREAK SPACE}%"


def spell(seconds: float) -> str:
    """40 s, 1 min 22 s, 3 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def time_of_day(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S}"


def moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S UTC on %-d %B %Y}"
