"""A rollout's folder on this machine, made as the cluster has the rollout.

What a save holds may be done over by its runner (it never learned that it was taken), so the newest line in a
folder may be of a save that is not there any more: it is always written anew. All lines before it stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coalmine.durable import append_line, read_lines, replace_lines, replace_text
from coalmine.errors import AlreadyRunning
from coalmine.journals.cluster_store import ClusterStore, Kept
from coalmine.journals.journal import EVENTS, TICKS, FileJournal, is_driven

Line = Mapping[str, Any]

_APPENDED = 16  # lines; where more are missing, the file is written as a whole


@dataclass(frozen=True)
class Copy:
    """What is to stand in `folder`, and what stood there when that was found out."""

    folder: Path
    kept: Kept
    ticks: Sequence[Line]
    events: Sequence[Line]
    ticks_before: Sequence[Line]
    events_before: Sequence[Line]

    @classmethod
    def of(cls, store: ClusterStore, kept: Kept, folder: Path) -> Copy:
        """Reads from the cluster what `folder` lacks, and writes nothing."""
        ticks, events = read_lines(folder / TICKS)[0], read_lines(folder / EVENTS)[0]
        sure = max(len(ticks) - 1, 0)
        outboxes = store.outboxes(kept, from_tick=sure)
        new_ticks = [tick for outbox in outboxes for tick in outbox["ticks"] if tick["sequence"] >= sure]
        new_events = [event for outbox in outboxes for event in outbox["events"]]
        told = kept.saved["state"]["events"] if kept.saved is not None else 0
        all_events = [*events[: told - len(new_events)], *new_events]
        return cls(folder, kept, [*ticks[:sure], *new_ticks], all_events, ticks, events)

    def write(self) -> None:
        """For one who has the folder's lease. Nothing, if its runner wrote there meanwhile."""
        folder = self.folder
        if len(read_lines(folder / TICKS)[0]) != len(self.ticks_before):
            return
        for name, text in self.kept.files.items():
            if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
                replace_text(folder / name, text)
        _write(folder / TICKS, self.ticks_before, self.ticks)
        _write(folder / EVENTS, self.events_before, self.events)
        journal = FileJournal(folder)
        if self.kept.saved is not None and journal.load() != self.kept.saved:
            journal.save(self.kept.saved)


def bring_up_to_date(folder: Path, store: ClusterStore, kept: Kept) -> None:
    """Unless a process of this clone drives the rollout: then the folder is ahead of `kept`, if anything."""
    if is_driven(folder):
        return
    copy = Copy.of(store, kept, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(AlreadyRunning), FileJournal(folder).lease():
        copy.write()


def _write(path: Path, before: Sequence[Line], after: Sequence[Line]) -> None:
    known = len(before)
    if after[:known] != before or len(after) - known > _APPENDED:
        replace_lines(path, after)
        return
    for line in after[known:]:
        append_line(path, line)
