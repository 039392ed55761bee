"""What served when, why, by whom, with which data: an auditor's questions, answered from Git alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from coalmine.audit import sheets
from coalmine.audit.answer import Answer, Part, moment
from coalmine.audit.ledger import Ledger, read_ledger
from coalmine.audit.questions.at import serving
from coalmine.audit.questions.between import between
from coalmine.audit.questions.by_commit import by_commit
from coalmine.audit.questions.by_dataset import by_dataset
from coalmine.audit.questions.by_person import by_person
from coalmine.audit.questions.scope import Scope
from coalmine.errors import InputError, NotFound
from coalmine.operations.workspace import Workspace
from coalmine.registry.faults import without_credentials
from coalmine.spec import model_names

_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Audit:
    """The record of a workspace, read once, for any number of questions about `scope`.

    Every question raises NotFound for what nobody knows, with what there is.
    """

    ledger: Ledger
    repository: str
    scope: Scope
    now: datetime

    @property
    def _about(self) -> str:
        where = f" in {self.scope.environment}" if self.scope.environment else ""
        return f"{self.scope.model or 'every model'}{where}"

    def at(self, at: datetime | None = None) -> Answer:
        """One line for each place; everything about the release where a model was named. at: default now."""
        time = at or self.now
        question = f"What served of {self._about} at {moment(time)}?"
        if self.scope.model is None:
            found = serving(self.ledger, self.scope, time)
            return self._answer(question, found, sheets.of_serving(found))
        from coalmine.audit.questions.in_full import in_full  # half a second that one line does not need

        full = in_full(self.ledger, self.scope, time)
        return self._answer(question, full, sheets.of_full(full))

    def history(self) -> Answer:
        """
        Raises:
            InputError: no model was named.
        """
        if self.scope.model is None:
            raise InputError("Name the model whose history you ask for: coalmine audit MODEL --history")
        deeds = self.scope.deeds(self.ledger.deeds)
        question = f"What was done to {self._about}, from the beginning?"
        return self._answer(question, deeds, sheets.of_deeds("Its life, oldest first", deeds))

    def between(self, since: datetime | None, until: datetime | None) -> Answer:
        """since: default the beginning. until: default now.

        Raises:
            InputError: since is not before until.
        """
        start, end = _range(since, until or self.now)
        found = between(self.ledger, self.scope, start, end)
        question = f"What changed of {self._about} {_told(since, end)}?"
        return self._answer(question, found, sheets.of_between(found))

    def dataset(self, name: str) -> Answer:
        uses = by_dataset(self.ledger, self.scope, name)
        question = f"Which releases of {self._about} are made of {name}, and where did they serve?"
        return self._answer(question, uses, sheets.of_uses(uses))

    def by(self, words: str, since: datetime | None = None, until: datetime | None = None) -> Answer:
        """since, until: as of `between`."""
        start, end = _range(since, until or self.now)
        deeds = tuple(deed for deed in by_person(self.ledger, self.scope, words) if start < deed.at <= end)
        told = "" if since is None and until is None else f" {_told(since, end)}"
        question = f"What did {words} do to {self._about}{told}?"
        return self._answer(question, deeds, sheets.of_deeds("What was done, oldest first", deeds))

    def version(self, asked: str) -> Answer:
        """
        Raises:
            InputError: no model was named.
        """
        from coalmine.audit.questions.by_version import by_version

        found = by_version(self.ledger, self.scope, asked)
        question = f"How was {found.manifest.model} {asked} made, and what became of it?"
        return self._answer(question, found, sheets.of_version(found))

    def commit(self, sha: str) -> Answer:
        story = by_commit(self.ledger, sha)
        question = f"What did commit {sha} do, and which releases stand on it?"
        return self._answer(question, story, sheets.of_commit(story))

    def _answer(self, question: str, found: object, parts: tuple[Part, ...]) -> Answer:
        return Answer(question, self.now, self.repository, self.ledger.head, found, parts)


def open_audit(workspace: Workspace, model: str | None = None, environment: str | None = None) -> Audit:
    """
    model, environment: default: every one.

    Raises:
        NotFound: there is no such model or environment, and never was one.
        RepositoryUnready: no commit yet, or a shallow clone.
        IntegrityError: a file that coalmine wrote cannot be read any more.
    """
    ledger = read_ledger(workspace.repository)
    models = {*model_names(workspace.top), *ledger.models}
    if model is not None and model not in models:
        raise NotFound(f"There is no model {model}. There are: {', '.join(sorted(models)) or 'none'}.")
    if environment is not None and environment not in ledger.environments:
        workspace.settings.environment(environment)
    remote = workspace.repository.remote_url(workspace.settings.git.remote)
    where = without_credentials(remote) or str(workspace.top)  # answers are kept
    return Audit(ledger, where, Scope(model, environment), datetime.now(UTC).replace(microsecond=0))


def _range(since: datetime | None, until: datetime) -> tuple[datetime, datetime]:
    if since is not None and since > until:
        raise InputError(f"--since {moment(since)} is after --until {moment(until)}: swap them")
    return since or _BEGINNING, until


def _told(since: datetime | None, until: datetime) -> str:
    beginning = "from the beginning" if since is None else f"after {moment(since)}"
    return f"{beginning} until {moment(until)}"


def parse_time(text: str) -> datetime:
    """ISO 8601; in UTC where it has no zone.

    Raises:
        InputError: it is none.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(
            f"{text} is no time. Write it as ISO 8601: 2026-03-01, 2026-03-01T14:00 (both UTC), or with its "
            "zone, 2026-03-01T14:00+02:00"
        ) from error
    return at.replace(tzinfo=at.tzinfo or UTC)
