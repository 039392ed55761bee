"""Lines of JSON about one rollout, to which more are added and from which none is ever taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from coalmine.durable import append_line, read_lines


class Lines(Protocol):
    def read(self) -> list[dict[str, Any]]:
        """Oldest first.

        Raises:
            Unavailable: they lie on a cluster that does not answer.
        """

    def add(self, line: Mapping[str, object], once: Sequence[str] = ()) -> bool:
        """One more, durable when this returns.

        once: fields; where a line has the same values in all of them already, nothing is added, and this
            returns False.

        Raises:
            MachineUnready: the disk is full, or the folder cannot be written.
            Unavailable: they lie on a cluster that does not answer; safe to repeat with `once`.
        """


class FileLines:
    """`Lines` in a file of this machine. One writer at a time, where `once` is given."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        return read_lines(self._path)[0]

    def add(self, line: Mapping[str, object], once: Sequence[str] = ()) -> bool:
        if is_among(self.read(), line, once):
            return False
        append_line(self._path, line)
        return True


def is_among(lines: Sequence[Mapping[str, Any]], line: Mapping[str, object], once: Sequence[str]) -> bool:
    """Whether one of `lines` has the values of `line` in the fields `once`."""
    return bool(once) and any(all(there.get(key) == line[key] for key in once) for there in lines)
