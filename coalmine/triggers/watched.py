"""What was seen of one release where it is stable, from its first look to the newest.

A look adds up what each life of its servers has counted since the look before. A server that starts
anew begins a life, at zero, and one that goes takes nothing back: what it counted after the last look
that found it is nobody's. Evidence and the counts that it rests on are one value, so that whoever
keeps it whole can be killed at any moment: no count is shown twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from coalmine.rollout.evidence import AnswerCounts, Answers, answered
from coalmine.statistics import saved
from coalmine.statistics.against_limits import AgainstLimits
from coalmine.triggers.drift import Drift

# Of lives that have left, the counts of so many are kept, the newest: a scrape may fail for a while. Servers
# come and go as long as a release serves, and a ConfigMap has room for 1 MiB.
_KEPT_AFTER_LEAVING = 20


@dataclass(frozen=True)
class Watched:
    """
    digest: of the release. lives: what each life of its servers had counted when it was last seen.
    forgotten: lives that left so long ago that this is not kept; one that comes back counts from there on.
    quality, drift: None until they are asked for.
    """

    digest: str
    lives: dict[str, Answers]
    quality: AgainstLimits | None = None
    drift: Drift | None = None
    forgotten: tuple[str, ...] = ()

    @classmethod
    def begin(cls, digest: str) -> Self:
        return cls(digest, {})

    def with_answers(self, answers: Mapping[str, Answers]) -> tuple[Self, list[AnswerCounts]]:
        """After a look that found `answers`, by life; and what is new, by life."""
        new = (answered(self._before(life, now), now) for life, now in answers.items())
        left = [life for life in self.lives if life not in answers]
        kept = {life: self.lives[life] for life in left[-_KEPT_AFTER_LEAVING:]}
        forgotten = (*(life for life in self.forgotten if life not in answers), *left[:-_KEPT_AFTER_LEAVING])
        after = replace(self, lives={**kept, **answers}, forgotten=forgotten)
        return after, [counts for counts in new if counts is not None]

    def _before(self, life: str, now: Answers) -> Answers:
        return now if life in self.forgotten else self.lives.get(life, Answers(now.epoch))

    def to_json(self) -> dict[str, object]:
        return saved.to_json(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Law: `from_json(w.to_json()) == w`."""
        return saved.from_json(cls, data)


def against(test: AgainstLimits | None, limits: tuple[float, ...]) -> AgainstLimits:
    """`test` where it is of these limits; a new one where there is none, or somebody moved the limits."""
    return test if test is not None and test.limits == limits else AgainstLimits.start(limits)
