"""A forecast of a rollout, in words for people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from coalmine.rollout.plan import StageKind

if TYPE_CHECKING:
    from coalmine.operations.plan import Forecast
    from coalmine.rollout.foresight import Foreseen


def in_words(forecast: Forecast) -> Iterator[str]:
    """The forecast for people, line by line."""
    foreseen = forecast.foreseen
    users = foreseen.users
    yield (
        f"{forecast.model} in {forecast.environment}: {users.requests_per_s:,.3g} requests per second, "
        f"{users.error_rate:.2%} of them fail ({forecast.source})."
    )
    if forecast.next_release is not None:
        yield f"To {forecast.environment}: {forecast.next_release}."
    if any(stage.stage.kind is StageKind.USERS for stage in foreseen.stages):
        yield f"Taken to be chosen: {users.chosen:.1%} of the requests (--chosen-share says otherwise)."
    yield ""
    yield f"  {'stage':<14}{'median':>9}{'9 of 10':>10}  convinced last   rules out a candidate worse by"
    for stage in foreseen.stages:
        margins = ", ".join(f"{name} {margin:.2%}" for name, margin in stage.margins.items())
        times = f"{_spell(stage.median_s):>9}{_spell(stage.slow_s):>10}"
        yield f"  {stage.stage!s:<14}{times}  {stage.slowest or 'nothing asked':<16} {margins}"
    yield ""
    yield (
        f"Promoted: {foreseen.promoted:.0%} of good releases, half of them within "
        f"{_spell(foreseen.median_s)}, nine in ten within {_spell(foreseen.slow_s)}, the bake included and "
        "the start of the server not."
    )
    yield _smallest(foreseen)
    yield (
        f"Failed requests of users: at worst about {foreseen.worst_failed:,.0f} on average before a "
        f"release is off, by one that fails {foreseen.worst_excess:.2%} of the requests more than stable."
    )
    if foreseen.not_foreseen:
        yield f"Not foreseen, since nobody can draw it: {', '.join(foreseen.not_foreseen)}."
    yield from _thin(forecast)
    yield (
        f"Simulated with the gates' own e-processes (seed {forecast.seed}), not measured: traffic that "
        "varies over the day, and failures in bursts, take longer."
    )


def _smallest(foreseen: Foreseen) -> str:
    rate = foreseen.users.error_rate
    if foreseen.smallest_excess is None:
        return "Regressions: not even a release that fails every request is found nine times in ten."
    excess = foreseen.smallest_excess
    passes = foreseen.users.requests_per_s * excess * 60
    return (
        f"Regressions: from about {excess:.2%} of the requests on ({rate:.2%} failing become "
        f"{rate + excess:.2%}) nine in ten are found before the bake. Smaller ones may pass, up to "
        f"{passes:,.0f} failed requests a minute once everybody is on the release, or hold a stage until its "
        "budget ends it."
    )


def _thin(forecast: Forecast) -> Iterator[str]:
    foreseen = forecast.foreseen
    if not forecast.otherwise and not forecast.widened and not foreseen.too_thin:
        return
    yield ""
    if foreseen.too_thin:
        yield (
            f"TRAFFIC IS TOO THIN: {1 - foreseen.promoted:.0%} of good releases are not promoted within "
            "`hold_budget_s` of each stage."
        )
    for name, (was, able) in forecast.widened.items():
        yield (
            f"TRAFFIC IS THIN: the last stage of {name} can rule out {able:.2%}, not the {was:.2%} that are "
            "set, in a reasonable time."
        )
    for other in forecast.otherwise:
        yield f"  With `{other.change}`: {_in_short(other.foreseen)}"
    yield ""


def _in_short(foreseen: Foreseen) -> str:
    found = "nothing" if foreseen.smallest_excess is None else f"from {foreseen.smallest_excess:.2%} on"
    return (
        f"{foreseen.promoted:.0%} promoted, half within {_spell(foreseen.median_s)}; found {found}; at worst "
        f"{foreseen.worst_failed:,.0f} failed requests."
    )


def _spell(seconds: float) -> str:
    if seconds == math.inf:
        return "never"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
