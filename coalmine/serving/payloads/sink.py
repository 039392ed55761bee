"""Where events go: what the log asks of a sink, and how a sink says no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from coalmine.serving.payloads.events import Event


class SinkFailed(Exception):
    """Why events are lost, in a few words without any of their content."""


class Sink(Protocol):
    """Used by one thread. batch: the most events that `write` is given at once."""

    batch: int

    def write(self, events: Sequence[Event]) -> None:
        """Keep all of `events`.

        Raises:
            SinkFailed: none of them was kept.
        """

    def close(self) -> None: ...
