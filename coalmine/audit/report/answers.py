"""What the two arms answered, and how long it took."""

from __future__ import annotations

import math
from itertools import pairwise

from coalmine.audit.charts import Bars, draw_bars
from coalmine.audit.report.pieces import table
from coalmine.audit.report.words import duration, percent
from coalmine.audit.story import Story, exceedance
from coalmine.rollout.evidence import Arm


def latency(story: Story) -> str:
    candidate = exceedance(story, lambda poll: poll.candidate)
    stable = exceedance(story, lambda poll: poll.stable)
    rows = []
    for bound, (over, of) in candidate.items():
        stable_over, stable_of = stable.get(bound, (0, 0))
        if of and math.isfinite(bound) and 0 < over + stable_over < of + stable_of:
            rows.append((duration(bound), _longer(over, of), _longer(stable_over, stable_of)))
    if not rows:
        return "<p>No durations were measured.</p>"
    return table(("Longer than", "Candidate", "Stable"), rows)


def _longer(over: int, of: int) -> str:
    return f"{percent(over / of)} ({over:,})" if of else "no requests"


def scores(story: Story) -> str:
    """How both arms' scores are spread, by the bounds that their servers count; "" where none are."""
    rows = {arm: _rows_by_bin(story, arm) for arm in Arm}
    bounds = _score_bounds(story)
    if not bounds or not all(sum(counts) for counts in rows.values()):
        return ""
    labels = [f"{bound:g}" for bound in bounds]
    series = [
        Bars(arm.value, f"{arm.value}, {sum(counts):,} rows", [count / sum(counts) for count in counts])
        for arm, counts in rows.items()
    ]
    return draw_bars("Share of the scores between one bound and the next", labels, series)


def _score_bounds(story: Story) -> tuple[float, ...]:
    """The newest ones: a release whose servers count by others began a distribution of its own."""
    return next((poll.score_bounds for poll in reversed(story.polls) if poll.score_bounds), ())


def _rows_by_bin(story: Story, arm: Arm) -> list[int]:
    bounds = _score_bounds(story)
    known = [
        poll.answers[arm].within
        for poll in story.polls
        if arm in poll.answers and poll.score_bounds == bounds
    ]
    cumulative = [sum(column) for column in zip(*known, strict=True)]
    return [count - before for before, count in pairwise([0, *cumulative])]
