"""Evidence that rates lie above fixed limits, which may be looked at for as long as one likes.

For what has no second arm to be compared with: a release against what it showed when it was made. The
e-processes are those of a roll-back (coalmine.statistics.eprocess) against a fixed edge, whose wealth is
spread over starts, so that a rate which rises late is found too. While every rate is at its limit
or below, the evidence ever reaches 1/alpha with probability alpha at most, over all looks together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from coalmine.statistics.eprocess import EProcess, Null, Question, TwoArmCounts

# Bets rest on about so many of the newest requests: a rate that rises late must not be looked for in the
# mean over a long life.
_RECENT_REQUESTS = 2000.0

_LOOKS_PER_START = 4  # an hour, where it is looked every fifteen minutes

# The limit, as a rate to bet on, weighs so much that what it is rounded by shows nowhere.
_FIRM_REQUESTS = 1e6


@dataclass(frozen=True)
class AgainstLimits:
    """
    limits: of each event's rate.
    requests, events: everything counted. recent: the newest of it, on which bets rest.
    highest_log_e: the most evidence that any look has seen.
    """

    process: EProcess
    limits: tuple[float, ...]
    requests: float
    events: tuple[float, ...]
    recent_requests: float
    recent_events: tuple[float, ...]
    highest_log_e: float = 0.0

    @classmethod
    def start(cls, limits: Sequence[float]) -> Self:
        nothing = (0.0,) * len(limits)
        process = EProcess.start(Question.ROLL_BACK, Null(1.0, 0.0), len(limits), _LOOKS_PER_START)
        return cls(process, tuple(limits), 0.0, nothing, 0.0, nothing)

    def with_counts(self, requests: float, events: Sequence[float]) -> Self:
        """After one more look; an event's count may be a sum of losses, each in [0, 1]. Without requests
        nothing is shown."""
        if requests == 0:
            return self
        new = TwoArmCounts(requests, 0, tuple(events), (0.0,) * len(self.limits))
        firm = tuple(limit * _FIRM_REQUESTS for limit in self.limits)
        past = TwoArmCounts(self.recent_requests, _FIRM_REQUESTS, self.recent_events, firm)
        process = self.process.with_candidate_poll(new, self.limits, past)
        kept = min(1.0, _RECENT_REQUESTS / (self.recent_requests + requests))
        return replace(
            self,
            process=process,
            requests=self.requests + requests,
            events=_sum(self.events, events),
            recent_requests=(self.recent_requests + requests) * kept,
            recent_events=tuple(count * kept for count in _sum(self.recent_events, events)),
            highest_log_e=max(self.highest_log_e, process.log_e),
        )

    @property
    def most_above(self) -> int:
        """The event whose rate the evidence says most of."""
        by_event = self.process.log_e_by_event
        return by_event.index(max(by_event))


def _sum(before: Sequence[float], new: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(before, new, strict=True))
