"""The time that a request may take, from its head to its answer.

Whoever sends a body a byte at a time, and whoever waits behind a slow model, is answered when
that time is over and holds nothing any more. One look at the oldest requests every now and
then costs less than a timer for each of them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

_LOOKS = 20  # per limit: a request ends at most a twentieth of the limit late


class Deadlines:
    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._started_s: dict[asyncio.Task[Any], float] = {}  # oldest first
        self._ended: set[asyncio.Task[Any]] = set()

    def start(self, task: asyncio.Task[Any], now_s: float) -> None:
        self._started_s[task] = now_s

    def stop(self, task: asyncio.Task[Any]) -> None:
        del self._started_s[task]
        self._ended.discard(task)

    def has_ended(self, task: asyncio.Task[Any]) -> bool:
        """Whether the time of `task` is over, which is why it was cancelled."""
        return task in self._ended

    async def watch(self) -> None:
        """Cancel what takes too long, until cancelled itself."""
        while True:
            await asyncio.sleep(self.limit_s / _LOOKS)
            self.end_overdue(time.perf_counter())

    def end_overdue(self, now_s: float) -> None:
        for task, started_s in self._started_s.items():
            if now_s - started_s < self.limit_s:
                return
            if task not in self._ended:
                self._ended.add(task)
                task.cancel()
