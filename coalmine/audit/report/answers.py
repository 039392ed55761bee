"""What the two arms answered, and how long it took."""

from __future__ import annotations

from coalmine.audit.report.pieces import table
from coalmine.audit.report.words import duration, percent
from coalmine.audit.story import Story, exceedance


def latency(story: Story) -> str:
    candidate = exceedance(story, lambda poll: poll.candidate)
    stable = exceedance(story, lambda poll: poll.stable)
    rows = []
    for bound, (over, of) in candidate.items():
        stable_over, stable_of = stable.get(bound, (0, 0))
        if of and 0 < over + stable_over < of + stable_of:
            rows.append((duration(bound), _longer(over, of), _longer(stable_over, stable_of)))
    if not rows:
        return "<p>No durations were measured.</p>"
    return table(("Longer than", "Candidate", "Stable"), rows)


def _longer(over: int, of: int) -> str:
    return f"{percent(over / of)} ({over:,})" if of else "no requests"
