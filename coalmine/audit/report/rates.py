"""How often each arm failed, and how sure that is at every moment: rates with confidence sequences."""

from __future__ import annotations

import itertools

from coalmine.audit.charts import Chart, Line, Ribbon, draw, share_ticks
from coalmine.audit.report.timeline import bands, end, since
from coalmine.audit.report.words import percent
from coalmine.audit.story import Story
from coalmine.rollout.evidence import Arm, ArmCounts
from coalmine.statistics.intervals import confidence_sequence

CONFIDENCE = 0.95
# An interval is wide at first. The chart is as high as what is known at the end needs, with some air.
_AIR = 1.6


def rates(story: Story) -> str:
    arms = {arm: _Rate(story, arm) for arm in Arm}
    highest = max((rate.high[-1] for rate in arms.values()), default=0.0)
    ceiling = min(1.0, max(highest * _AIR, 0.001))
    chart = Chart(
        "Share of the requests that failed, so far",
        [Line(arm.value, arm.value, rate.line) for arm, rate in arms.items()],
        end(story),
        0,
        ceiling,
        share_ticks(ceiling),
        bands(story, named=False),
        [Ribbon(arm.value, rate.ribbon) for arm, rate in arms.items()],
    )
    return draw(chart) + f'<p class="said">{_in_words(arms)}</p>'


class _Rate:
    """One arm's failure rate so far, poll by poll, with the limits that hold at every poll at once."""

    def __init__(self, story: Story, arm: Arm) -> None:
        counts: list[ArmCounts] = [
            poll.candidate if arm is Arm.CANDIDATE else poll.stable for poll in story.users_polls
        ]
        requests = list(itertools.accumulate(count.requests for count in counts))
        failures = list(itertools.accumulate(min(count.failures, count.requests) for count in counts))
        low, high = confidence_sequence(failures, requests, 1 - CONFIDENCE)
        self.low, self.high = low.tolist(), high.tolist()
        self.now = failures[-1] / requests[-1] if requests[-1] else None
        times = [since(story, poll.at_s) for poll in story.users_polls]
        self.ribbon = [
            (at, a, b) for at, n, a, b in zip(times, requests, self.low, self.high, strict=True) if n
        ]
        self.line = [(at, x / n) for at, n, x in zip(times, requests, failures, strict=True) if n]


def _in_words(arms: dict[Arm, _Rate]) -> str:
    told = [
        f"{arm.value} {percent(rate.now)} ({percent(rate.low[-1])} to {percent(rate.high[-1])})"
        for arm, rate in arms.items()
        if rate.now is not None
    ]
    return (
        f"In the end: {', '.join(told)}. The shaded intervals hold with {100 * CONFIDENCE:g} % at every "
        "moment at once, so they may be looked at whenever one likes."
    )
