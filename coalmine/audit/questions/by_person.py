"""Everything that a person or a service did."""

from __future__ import annotations

from collections.abc import Iterator

from coalmine.audit.asked import asked_of
from coalmine.audit.deeds import Action, Deed
from coalmine.audit.ledger import Ledger
from coalmine.audit.questions.at import record_name
from coalmine.audit.questions.scope import Scope
from coalmine.audit.rollout_record import closings, parse_record
from coalmine.errors import NotFound
from coalmine.registry.repository import Commit

_MOST = 20  # names in an error


def by_person(ledger: Ledger, scope: Scope, words: str) -> tuple[Deed, ...]:
    """What was asked for by whoever has `words` in the name, oldest first; case does not matter.

    Raises:
        NotFound: nobody of that name did anything; names who did.
    """
    wanted = words.casefold()
    deeds = [deed for deed in ledger.deeds if wanted in deed.who.who.casefold()]
    deeds += (deed for deed in _asked(ledger, wanted) if wanted in deed.who.who.casefold())
    if not deeds:
        known = sorted({deed.who.who for deed in ledger.deeds})
        more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
        raise NotFound(
            f"Nobody called {words} did anything, as far as this clone knows. There are: "
            f"{', '.join(known[:_MOST]) or 'nobody'}{more}."
        )
    # A rollout's requests stand with the commit that ended it, before its ending.
    order = {commit.sha: number for number, commit in enumerate(ledger.commits)}
    deeds.sort(key=lambda deed: (order[deed.commit], deed.action is not Action.ASKED, deed.at))
    return scope.deeds(deeds)


def _asked(ledger: Ledger, wanted: str) -> Iterator[Deed]:
    """What was asked of running rollouts, from those records that have the words in them."""
    ended = list(closings(ledger.commits))
    names = [record_name(commit) for commit in ended]
    for commit, name, text in zip(ended, names, ledger.repository.read_all(names), strict=True):
        if text is not None and wanted in _told(text.decode()):
            yield from _asked_in(commit, name, text.decode())


def _told(text: str) -> str:
    """What a record tells of the course of its rollout, in one line: YAML folds long ones."""
    return " ".join(text.partition("\nreason:")[2].split()).casefold()


def _asked_in(commit: Commit, name: str, text: str) -> Iterator[Deed]:
    record = parse_record(text, name)
    for asked in asked_of(record):
        yield Deed(
            asked.at,
            Action.ASKED,
            record.model,
            record.candidate,
            record.environment,
            asked.who,
            record.id,
            commit.sha,
            asked.sentence,
        )
