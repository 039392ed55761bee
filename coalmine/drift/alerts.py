"""Who is told of which finding, once: a fold over looks. Pure, and JSON in between.

A finding is told once two looks in a row have shown it, as far apart as an honest change may take; one that
no honest change ever shows, at once. What was told is told to have ended by the same rule. What a look could
not see has neither come nor gone.

A notice waits with the names of those who are yet to get it, and each name is struck out when it was told. So
whoever is killed in between tells it again, and loses none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coalmine.drift.compare import Look
from coalmine.drift.findings import AT_ONCE, Finding, Heal, Kind

HEALS_AFTER_S = 15.0  # as long as a lease lasts that nobody renews
MOST_WAITING = 100  # notices of looks; a webhook that was wrong for so long is no news any more


@dataclass(frozen=True)
class Open:
    """A finding that is there. first_s: of the first look that saw it. again: more than one did, in a row.
    gone_s: of the first look after which it was not seen any more."""

    finding: Finding
    first_s: float
    again: bool = False
    told: bool = False
    gone_s: float | None = None

    def has_settled(self, now_s: float, within_s: float) -> bool:
        return within_s == AT_ONCE or (self.again and now_s - self.first_s >= within_s)

    def has_ended(self, now_s: float) -> bool:
        settles_s = self.finding.kind.settles_s
        return self.gone_s is not None and (settles_s == AT_ONCE or now_s - self.gone_s >= settles_s)


@dataclass(frozen=True)
class Notice:
    """What a look made news. appeared, ended: with the time of the first look that saw each. to: the names of
    those who are yet to be told."""

    number: int
    at_s: float
    appeared: tuple[Open, ...]
    ended: tuple[Open, ...]
    to: tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """What is kept from look to look. Law: `from_json(to_json(watched)) == watched`."""

    open: Mapping[str, Open] = field(default_factory=dict)
    waiting: tuple[Notice, ...] = ()
    number: int = 0

    def with_look(
        self, look: Look, now_s: float, to: Sequence[str], healing: Collection[str] = ()
    ) -> Watched:
        """to: the names of those who are told. healing: keys of findings that are being mended, which are
        told at once: nothing is mended unsaid."""
        seen = {finding.key: finding for finding in look.findings}
        after: dict[str, Open] = {}
        appeared, ended = [], []
        for key, before in self.open.items():
            if key in seen:
                after[key] = replace(before, finding=seen[key], again=True, gone_s=None)
            elif not look.has_looked_at(before.finding):
                after[key] = before
            elif before.told:
                gone = replace(before, gone_s=now_s if before.gone_s is None else before.gone_s)
                if gone.has_ended(now_s):
                    ended.append(gone)
                else:
                    after[key] = gone
        for key, finding in seen.items():
            after.setdefault(key, Open(finding, now_s))
            present = after[key]
            is_news = present.has_settled(now_s, finding.kind.settles_s) or key in healing
            if is_news and not present.told:
                after[key] = replace(present, told=True)
                appeared.append(after[key])
        if not appeared and not ended:
            return replace(self, open=after)
        number = self.number + 1
        waiting = self.waiting
        if to:
            waiting = (*waiting, Notice(number, now_s, tuple(appeared), tuple(ended), tuple(to)))
        return Watched(after, waiting, number)

    def to_heal(self, look: Look, now_s: float) -> tuple[Finding, ...]:
        """Those of `look` that may be mended by now: what is honest is over, or is somebody's still."""
        return tuple(
            finding
            for finding in look.findings
            if finding.heal is not Heal.PERSON
            and finding.kind is not Kind.UNREADABLE
            and (before := self.open.get(finding.key)) is not None
            and now_s - before.first_s >= HEALS_AFTER_S
        )

    def with_told(self, number: int, name: str) -> Watched:
        """`name` has got the notice `number`."""
        waiting = (
            replace(each, to=tuple(to for to in each.to if to != name)) if each.number == number else each
            for each in self.waiting
        )
        return replace(self, waiting=tuple(each for each in waiting if each.to))

    def without(self, known: Collection[str]) -> tuple[Watched, tuple[Notice, ...]]:
        """Nobody waits who is not among `known` any more, and of too many notices the oldest are given up:
        those come back too."""
        waiting = (replace(each, to=tuple(to for to in each.to if to in known)) for each in self.waiting)
        kept = tuple(each for each in waiting if each.to)
        return replace(self, waiting=kept[-MOST_WAITING:]), kept[:-MOST_WAITING]

    # --- JSON --------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "number": self.number,
            "open": [_open_to_json(each) for each in self.open.values()],
            "waiting": [
                {
                    "number": each.number,
                    "at_s": each.at_s,
                    "appeared": [_open_to_json(found) for found in each.appeared],
                    "ended": [_open_to_json(found) for found in each.ended],
                    "to": list(each.to),
                }
                for each in self.waiting
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Watched:
        """
        Raises:
            ValueError: it is not what `to_json` makes.
        """
        try:
            opened = [_open_from_json(each) for each in content["open"]]
            waiting = [
                Notice(
                    int(each["number"]),
                    float(each["at_s"]),
                    tuple(map(_open_from_json, each["appeared"])),
                    tuple(map(_open_from_json, each["ended"])),
                    tuple(map(str, each["to"])),
                )
                for each in content["waiting"]
            ]
            return cls({each.finding.key: each for each in opened}, tuple(waiting), int(content["number"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no such part: {error}") from error


def _open_to_json(each: Open) -> dict[str, Any]:
    finding = each.finding
    return {
        "kind": finding.kind.value,
        "model": finding.model,
        "subject": finding.subject,
        "expected": finding.expected,
        "seen": finding.seen,
        "remedy": finding.remedy,
        "heal_as": None if finding.heal_as is None else finding.heal_as.value,
        "first_s": each.first_s,
        "again": each.again,
        "told": each.told,
        "gone_s": each.gone_s,
    }


def _open_from_json(content: Mapping[str, Any]) -> Open:
    heal_as = content["heal_as"]
    words = {key: str(content[key]) for key in ("model", "subject", "expected", "seen", "remedy")}
    finding = Finding(Kind(content["kind"]), **words, heal_as=None if heal_as is None else Heal(heal_as))
    gone_s = content["gone_s"]
    return Open(
        finding,
        float(content["first_s"]),
        bool(content["again"]),
        bool(content["told"]),
        None if gone_s is None else float(gone_s),
    )
