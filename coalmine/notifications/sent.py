"""What was sent of a rollout, and to whom.

A notice is written down before it is sent, so that a runner that is killed in between sends none twice;
that one may then be lost, and `coalmine status` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from coalmine.journals.lines import Lines
from coalmine.notifications.hooks import Hook
from coalmine.notifications.notices import Notice


class Outcome(StrEnum):
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class SentNotices:
    """What one hook was sent of one rollout."""

    def __init__(self, lines: Lines, hook: Hook) -> None:
        self._lines = lines
        self._hook = hook
        self._known = {line["sequence"] for line in lines.read() if line["hook"] == hook.id}

    def begin(self, notice: Notice) -> bool:
        """Whether `notice` is to be sent, by this process and now; whoever asks next is told no.

        Raises:
            MachineUnready, Unavailable: it cannot be written down, and so must not be sent.
        """
        if notice.sequence in self._known:
            return False
        is_first = self._add(notice, Outcome.SENDING, once=("sequence", "hook"))
        self._known.add(notice.sequence)
        return is_first

    def end(self, notice: Notice, outcome: Outcome, why: str = "") -> None:
        """What became of it."""
        self._add(notice, outcome, why)

    def _add(self, notice: Notice, outcome: Outcome, why: str = "", once: Sequence[str] = ()) -> bool:
        line: dict[str, object] = {
            "sequence": notice.sequence,
            "hook": self._hook.id,
            "told": notice.told.value,
            "to": self._hook.name,
            "outcome": outcome.value,
        }
        return self._lines.add({**line, "why": why} if why else line, once)


def undelivered(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Notices of a rollout that did not arrive, or may not have: one sentence each."""
    last: dict[tuple[int, str], dict[str, Any]] = {}
    for line in lines:
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
