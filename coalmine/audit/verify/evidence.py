"""The evidence of each rollout that ended: whole, as its commit says, and giving the same decisions.

That it is as its commit left it is told by `history`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coalmine.audit.attribution import to_trailer
from coalmine.audit.closing import polls_in, to_record
from coalmine.audit.recorded import Computed, Recorded, compute, from_files
from coalmine.audit.rollout_record import (
    ENDINGS,
    POLLS_PACKED,
    RECORD,
    TICKS_PACKED,
    Ending,
    RolloutRecord,
    parse_record,
    record_folder,
)
from coalmine.audit.story import tell
from coalmine.audit.verify.cores import Cores
from coalmine.audit.verify.findings import Finding, Kind, Scope, Where
from coalmine.audit.verify.snapshot import Change, Snapshot, Written
from coalmine.errors import IntegrityError
from coalmine.journals.about import About
from coalmine.journals.journal import PLAN
from coalmine.registry.repository import Commit

_WITH_TICKS = (RECORD, PLAN, TICKS_PACKED)
_BEFORE_TICKS = (RECORD, POLLS_PACKED)
_ANOTHER = (
    "See it with coalmine replay {}. If no other version of coalmine, with other rules, ran that rollout, "
    "the record is not what was decided: compare this clone with another one."
)


@dataclass(frozen=True)
class Closing:
    """One rollout that ended. files: blob of each file of its folder that the commit added, by name."""

    commit: Commit
    model: str
    rollout: str
    files: Mapping[str, str]

    @property
    def folder(self) -> str:
        return record_folder(self.model, self.rollout).as_posix()

    @property
    def is_computable(self) -> bool:
        """Older rollouts kept their counts alone."""
        return TICKS_PACKED in self.files

    def where(self, name: str = "") -> Where:
        return Where(self.commit.sha, f"{self.folder}/{name}".rstrip("/"))


def read_closings(snapshot: Snapshot, scope: Scope) -> list[Closing]:
    """Oldest first."""
    found = []
    for entry in snapshot.entries:
        trailers = entry.commit.trailers
        model, rollout = trailers.get("Model", ""), trailers.get("Rollout", "")
        if entry.decision in ENDINGS and scope.has(model, trailers.get("Environment")):
            found.append(Closing(entry.commit, model, rollout, _files(entry.changes, model, rollout)))
    return found


def _files(changes: Sequence[Change], model: str, rollout: str) -> dict[str, str]:
    start = f"{record_folder(model, rollout).as_posix()}/"
    return {
        change.path.removeprefix(start): change.after
        for change in changes
        if change.of.written is Written.EVIDENCE and change.path.startswith(start) and change.after
    }


def evidence_findings(snapshot: Snapshot, closings: Sequence[Closing], cores: Cores) -> Iterator[Finding]:
    whole = []
    for closing in closings:
        missing = [name for name in _names(closing) if name not in closing.files]
        if missing:
            yield Finding(
                Kind.EVIDENCE_MISSING,
                closing.where(),
                "the evidence of the rollout in the commit that ended it",
                f"none of {', '.join(missing)}",
                "Without it nobody can say why this rollout ended as it did: look for it in other clones.",
            )
        else:
            whole.append(closing)
    contents = snapshot.contents(closing.files[name] for closing in whole for name in _names(closing))
    files = ((closing, {name: next(contents) for name in _names(closing)}) for closing in whole)
    for found in cores.map(_closing, files, len(whole)):
        yield from found


def _names(closing: Closing) -> tuple[str, ...]:
    return _BEFORE_TICKS if POLLS_PACKED in closing.files else _WITH_TICKS


def _closing(of: tuple[Closing, Mapping[str, bytes]]) -> list[Finding]:
    closing, files = of
    try:
        record = parse_record(files[RECORD].decode(errors="replace"), RECORD)
        recorded = computed = None
        if closing.is_computable:
            recorded = from_files(closing.rollout, closing.model, closing.folder, record, files)
            computed = compute(recorded)
    except IntegrityError as error:
        remedy = "Compare this clone with another one."
        return [Finding(Kind.EVIDENCE, closing.where(), "evidence as coalmine writes it", str(error), remedy)]
    found = list(_agreeing(closing, record))
    if recorded is not None and computed is not None:
        found += _decided(closing, record, recorded, computed)
    return found


def _agreeing(closing: Closing, record: RolloutRecord) -> Iterator[Finding]:
    """rollout.yaml tells of the same rollout, and the same ending, as the commit."""
    said = {
        "Rollout": record.id,
        "Model": record.model,
        "Environment": record.environment,
        "Version": record.candidate,
        "Decision": record.outcome.value,
        "Triggered-By": to_trailer(record.triggered_by),
    }
    for name, value in said.items():
        told = closing.commit.trailers.get(name, value)
        if told != value:
            yield _contradiction(closing, f"what the commit's trailer {name} says, {told}", value)
    users = record.events[-1].weight_percent if record.events else 0
    left = Ending.PROMOTED if users == 100 else Ending.REJECTED
    if left is not record.outcome:
        expected = f"events that end as the outcome says, {record.outcome}"
        yield _contradiction(closing, expected, f"{users} % of the users on the candidate at the end")


def _decided(
    closing: Closing, record: RolloutRecord, recorded: Recorded, computed: Computed
) -> Iterator[Finding]:
    """The ticks and the plan give the decisions again, and what rollout.yaml counts."""
    if computed.difference is not None:
        difference = computed.difference
        yield Finding(
            Kind.DECISIONS,
            closing.where(TICKS_PACKED),
            f"the {difference.what} of number {difference.number} as it is computed from the ticks, "
            f"{_short(difference.computed)}",
            _short(difference.recorded),
            _ANOTHER.format(closing.rollout),
        )
        return
    again = _again(record, recorded, computed)
    differing = [name for name in RolloutRecord.model_fields if getattr(again, name) != getattr(record, name)]
    if differing:
        name = differing[0]
        expected = f"{', '.join(differing)} as computed from the ticks, {_short(str(getattr(again, name)))}"
        yield _contradiction(closing, expected, _short(str(getattr(record, name))))


def _again(record: RolloutRecord, recorded: Recorded, computed: Computed) -> RolloutRecord:
    """The record as the closing commit would write it from what was computed."""
    about = About(
        id=record.id,
        environment=record.environment,
        model=record.model,
        candidate=record.candidate,
        stable=record.stable,
        stages=(),  # the plan tells them
        triggered_by=record.triggered_by,
    )
    story = tell(about, list(computed.events), polls_in(recorded.lines, TICKS_PACKED), recorded.plan)
    # A reason stands in an event as one sentence, with its full stop.
    same = story.reason.rstrip(".") == record.reason.rstrip(".")
    return to_record(story, record.outcome, record.reason if same else story.reason)


def _contradiction(closing: Closing, expected: str, seen: str) -> Finding:
    remedy = f"The two were written together: compare {closing.commit.sha[:12]} with another clone's."
    return Finding(Kind.EVIDENCE, closing.where(RECORD), expected, seen, remedy)


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
