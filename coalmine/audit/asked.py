"""What people asked of a rollout while it ran, read off the sentences that it wrote of them.

`rollout/asks.py` writes those sentences. The record holds the asker's name and no proof of it, so the proof
is unknown, unless the name itself brings one as a trailer would; a signature is none of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from coalmine.audit.attribution import from_trailer
from coalmine.audit.rollout_record import RolloutRecord
from coalmine.manifest import Trigger

_SENTENCES = (
    re.compile(r"(?P<what>Approved) by (?P<who>.+): (?P<of>.+), before .+\."),
    re.compile(r"(?P<what>Paused) by (?P<who>.+): no further step; the gates keep watching\."),
    re.compile(r"(?P<what>Resumed) by (?P<who>.+)\."),
    re.compile(r"Rolling back: (?P<what>aborted) by (?P<who>.+?)\."),
    re.compile(r"Rolling back: (?P<what>superseded) by a newer release \((?P<who>.+)\)\."),
    re.compile(r"Promoting: (?P<what>promoted early) by (?P<who>.+?)(?:, without (?P<of>.+))?\."),
    re.compile(r"(?P<who>.+) asked to (?P<what>\w+): .+\."),
)


@dataclass(frozen=True)
class Asked:
    """what: approved, paused, resumed, aborted, superseded, promoted early; or the name of what was refused.

    gates: those that were approved.
    """

    at: datetime
    what: str
    who: Trigger
    gates: tuple[str, ...]
    sentence: str


def asked_of(record: RolloutRecord) -> Iterator[Asked]:
    """In order."""
    for event in record.events:
        match = next((found for each in _SENTENCES if (found := each.fullmatch(event.what))), None)
        if match is None:
            continue
        words = match.groupdict()
        what = words["what"].lower()
        gates = tuple(words["of"].split(" and ")) if what == "approved" else ()
        yield Asked(event.at, what, _who(words["who"]), gates, event.what)


def _who(name: str) -> Trigger:
    person = name.removesuffix(" (interrupt)")
    told = from_trailer(person) or Trigger(kind="person", who=person, proof="unknown")
    return told.model_copy(update={"proof": "claimed"}) if told.proof == "signature" else told
