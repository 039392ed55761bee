"""What changed between two times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coalmine.audit.deeds import Deed
from coalmine.audit.ledger import Ledger
from coalmine.audit.questions.scope import Scope
from coalmine.audit.slots_history import Place


@dataclass(frozen=True)
class Replaced:
    """What served at the beginning and at the end, where these differ. None: nothing."""

    environment: str
    model: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Between:
    """deeds: all that was done, oldest first; also what was undone again."""

    replaced: tuple[Replaced, ...]
    deeds: tuple[Deed, ...]


def between(ledger: Ledger, scope: Scope, since: datetime, until: datetime) -> Between:
    """What was done after `since`, until `until` inclusive."""
    changed = (
        Replaced(*place, _stable(ledger, place, since), _stable(ledger, place, until))
        for place in scope.places(ledger)
    )
    deeds = (deed for deed in ledger.deeds if since < deed.at <= until)
    return Between(tuple(each for each in changed if each.before != each.after), scope.deeds(deeds))


def _stable(ledger: Ledger, place: Place, at: datetime) -> str | None:
    span = ledger.span_at(place, at)
    return None if span is None else span.turn.version
