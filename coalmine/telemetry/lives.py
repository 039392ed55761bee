"""What one model's pods have counted together, while they come, go and start anew. Pure.

The counts of each life are added up here: a pod that goes takes nothing back, and one whose server starts
anew counts on from zero. What was counted before the first look is in the sums as it is. A life that is
found later counts whole if it began since; otherwise only its scrapes failed until now, and what it had
counted before it was found is nobody's.

Pods are scraped one after the other, so that a look now and then finds only some of them further on:
`are_further` says when all are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Answers, Counters
from coalmine.slots import Slot
from coalmine.telemetry.answers import by_bin
from coalmine.telemetry.server_series import (
    BINNED,
    DURATIONS,
    LABELS,
    LOSS,
    REQUESTS,
    SCORES,
    Life,
    Scrape,
    Seen,
    Series,
)

STALE_SCRAPES = 3  # so many that should have been and were not
STALE_S = 10.0  # at the least: a scrape may be slow
UNKNOWN_S = 120.0  # until a second scrape has shown how often they are: twice Prometheus's own default


class Lives:
    """All lives that were ever seen."""

    def __init__(self) -> None:
        self._lives: dict[Life, _Counted] = {}
        self._present: frozenset[Life] = frozenset()
        self._began_s: float | None = None

    def take(self, seen: Seen) -> None:
        """
        Raises:
            TelemetryUnavailable: a scrape is too old to go by, or has counted less than the one before.
        """
        for life, scrape in seen.lives.items():
            counted = self._lives.get(life)
            if counted is None:
                from_zero = self._began_s is None or life.started_s > self._began_s
                counted = self._lives[life] = _Counted({} if from_zero else scrape.counts)
            counted.take(life, scrape)
            counted.require_fresh(life, seen.now_s)
        self._present = frozenset(seen.lives)
        if self._began_s is None:
            self._began_s = seen.now_s

    @property
    def are_further(self) -> bool:
        """Whether every pod was scraped again since `tell`."""
        return all(self._lives[life].at_s > self._lives[life].told_s for life in self._present)

    def tell(self) -> None:
        for counted in self._lives.values():
            counted.told_s = counted.at_s

    def scrapes(self) -> list[float]:
        """When each pod that is there was last scraped, by the clock of Prometheus."""
        return [self._lives[life].at_s for life in self._present]

    def has_scrape_of(self, pod: str) -> bool:
        """Whether Prometheus has one now."""
        return any(life.pod == pod for life in self._present)

    def last_scrape_s(self, pod: str, now_s: float) -> float:
        """How long ago `pod` was last scraped; infinite if it never was."""
        scraped = (counted.at_s for life, counted in self._lives.items() if life.pod == pod)
        return now_s - max(scraped, default=-math.inf)

    def total(self, slot: Slot) -> Total:
        return Total([counted for life, counted in self._lives.items() if life.slot is slot])


@dataclass
class _Counted:
    """One life. base: what of its counts is nobody's; told_s: the scrape that was last told."""

    base: Mapping[Series, float]
    last: Mapping[Series, float] = field(default_factory=dict)
    at_s: float = -math.inf
    told_s: float = -math.inf
    longest_s: float = 0.0  # from one scrape that was seen to the next

    def take(self, life: Life, scrape: Scrape) -> None:
        if scrape.at_s <= self.at_s:
            return  # the same scrape, or an older one, from a second Prometheus behind one address
        for series, value in self.last.items():
            now = scrape.counts.get(series, -1.0)
            if now < value:
                raise TelemetryUnavailable(
                    f"Pod {life.pod} has counted {value:g} of {' '.join(series)} and now "
                    f"{'none' if now < 0 else f'{now:g}'}, without a new start: do two servers answer as one?"
                )
        if math.isfinite(self.at_s):
            self.longest_s = max(self.longest_s, scrape.at_s - self.at_s)
        self.last, self.at_s = scrape.counts, scrape.at_s

    def require_fresh(self, life: Life, now_s: float) -> None:
        limit_s = max(STALE_S, STALE_SCRAPES * self.longest_s) if self.longest_s else UNKNOWN_S
        if now_s - self.at_s > limit_s:
            raise TelemetryUnavailable(
                f"Prometheus last scraped pod {life.pod} {now_s - self.at_s:.0f} s ago, and more than "
                f"{limit_s:.0f} s is too long to go by. Is Prometheus overloaded?"
            )


class Total:
    """What several lives counted. is_known: there was one."""

    def __init__(self, lives: Sequence[_Counted]) -> None:
        self.is_known = bool(lives)
        self._counts: defaultdict[Series, float] = defaultdict(float)
        for life in lives:
            for series, value in life.last.items():
                self._counts[series] += value - life.base.get(series, 0.0)
        self._common = {name: _common(lives, name) for name in (DURATIONS, SCORES)}

    @property
    def bounds_s(self) -> frozenset[str]:
        """The finite ones by which all of them count durations, as Prometheus writes them."""
        return self._common[DURATIONS] - {"+Inf"}

    def counters(self, audiences: tuple[str, ...], bounds_s: frozenset[str], unreached: int = 0) -> Counters:
        """unreached: what no server counted since it never came there: failures, and quick ones."""
        by_code = [
            (series[2], count)
            for series, count in self._counts.items()
            if series[0] == REQUESTS and series[1] in audiences
        ]
        within = {
            float(bound): round(sum(self._counts[DURATIONS, who, bound] for who in audiences)) + unreached
            for bound in bounds_s
        }
        return Counters(
            round(sum(count for _, count in by_code)) + unreached,
            round(sum(count for code, count in by_code if code[0] not in "23")) + unreached,
            tuple(sorted(within.items())),
        )

    def answers(self, epoch: str) -> Answers:
        scores = {float(bound): round(self._counts[SCORES, bound]) for bound in self._common[SCORES]}
        labels, loss = round(self._counts[(LABELS,)]), self._counts[(LOSS,)]
        binned = by_bin(
            (*series[1:], round(count)) for series, count in self._counts.items() if series[0] == BINNED
        )
        return Answers(epoch, tuple(sorted(scores.items())), labels, loss, binned)


def answers_by_life(found: Seen, slot: Slot) -> dict[str, Answers]:
    """What each life of the slot's servers has counted since it began."""
    lives = {
        f"{life.pod} {life.started_s!r}": scrape for life, scrape in found.lives.items() if life.slot is slot
    }
    return {life: Total([_Counted({}, scrape.counts)]).answers(life) for life, scrape in lives.items()}


def _common(lives: Sequence[_Counted], name: str) -> frozenset[str]:
    """The bounds of `name` that all have: pods of another version of the server may count by others."""
    of_each = [{series[-1] for series in life.last if series[0] == name} for life in lives]
    return frozenset(set.intersection(*of_each)) if of_each else frozenset()
