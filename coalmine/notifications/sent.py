"""What was sent of a rollout, and to whom, in its journal's folder: `notified.jsonl`.

A notice is written down before it is sent, so that a runner that is killed in between sends none twice;
that one may then be lost, and `coalmine status` says so.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from coalmine.durable import append_line, read_lines
from coalmine.notifications.hooks import Hook
from coalmine.notifications.notices import Notice

SENT = "notified.jsonl"


class Outcome(StrEnum):
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class SentNotices:
    """The record of one rollout and one hook. One writer at a time: the runner that holds the lease."""

    def __init__(self, folder: Path, hook: Hook) -> None:
        self._path = folder / SENT
        self._hook = hook
        self._known = {line["sequence"] for line in read_lines(self._path)[0] if line["hook"] == hook.id}

    def __contains__(self, notice: Notice) -> bool:
        return notice.sequence in self._known

    def write(self, notice: Notice, outcome: Outcome, why: str = "") -> None:
        """
        Raises:
            MachineUnready: the disk is full.
        """
        line: dict[str, object] = {
            "sequence": notice.sequence,
            "hook": self._hook.id,
            "told": notice.told.value,
            "to": self._hook.name,
            "outcome": outcome.value,
        }
        append_line(self._path, {**line, "why": why} if why else line)
        self._known.add(notice.sequence)


def undelivered(folder: Path) -> list[str]:
    """Notices of the rollout in `folder` that did not arrive, or may not have: one sentence each."""
    last: dict[tuple[int, str], dict[str, Any]] = {}
    for line in read_lines(folder / SENT)[0]:
        last[line["sequence"], line["hook"]] = line
    sentences = []
    for line in last.values():
        if line["outcome"] == Outcome.FAILED:
            sentences.append(f"`{line['told']}` was not delivered to {line['to']}: {line['why']}")
        elif line["outcome"] == Outcome.SENDING:
            sentences.append(
                f"`{line['told']}` is on its way to {line['to']}, or was lost when the runner ended"
            )
    return sentences
