"""An answer of the audit: what was asked, of which record, what was found, and what no record can know."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime

LIMITS = (
    "Times are those of the commits, by the clocks of those who committed: a rollout moves the users first "
    "and commits seconds later, so its own events are the finer source, and they are what the weights during "
    "a rollout come from.",
    "What was stable is what Git held as stable. That servers answered, and with what, Git does not know.",
    "A rollout that has not ended is not in Git yet, nor is what this clone has not fetched. A history that "
    "was rewritten before it was cloned looks like any other: compare the head with another clone's.",
    "Who asked is as sure as the proof beside the name. Signature: the commit is signed with a key that "
    "allowed_signers lists as theirs. Claimed: a name from Git's settings, or one that was typed. Unknown: "
    "the record has no proof, as of approvals, where it keeps the name alone.",
    "What was changed by hand is told with the commit's author, and nobody says why.",
    "Data and models are named by digest. Whether their bytes still lie in the DVC remote is not in Git.",
)


Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Facts:
    """Names and values of one thing."""

    title: str
    facts: tuple[tuple[str, str], ...]

    def pairs(self) -> list[Pairs]:
        """Row by row, names with their values."""
        return [self.facts]


@dataclass(frozen=True)
class Sheet:
    """A table. brief: how many of its columns a line has room for. nothing: what to say without rows."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    brief: int
    nothing: str

    def pairs(self) -> list[Pairs]:
        return [tuple(zip(self.heads, row, strict=True)) for row in self.rows]


Part = Facts | Sheet


@dataclass(frozen=True)
class Answer:
    """question: in plain words. found: what was found, as values. parts: the same in words, for people."""

    question: str
    asked: datetime
    repository: str
    head: str
    found: object
    parts: tuple[Part, ...]
    limits: tuple[str, ...] = LIMITS

    def to_csv(self) -> str:
        """One table as it is. Several parts as one line for each value, with its part and row."""
        written = io.StringIO()
        lines = csv.writer(written, lineterminator="\n")
        if len(self.parts) == 1 and isinstance(self.parts[0], Sheet):
            lines.writerows([self.parts[0].heads, *self.parts[0].rows])
            return written.getvalue()
        lines.writerow(("Part", "Row", "Name", "Value"))
        for part in self.parts:
            for number, pairs in enumerate(part.pairs(), 1):
                lines.writerows((part.title, number, name, value) for name, value in pairs)
        return written.getvalue()


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
