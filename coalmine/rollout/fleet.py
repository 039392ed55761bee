"""Many rollouts in one process: a thread for each, so that one that waits or fails stops no other.

What a rollout does is `runner`'s; here is only who is driven and when again. A rollout whose
driving fails is driven again after a pause that doubles. `halt` ends every thread between two
ticks: nothing is aborted, and whoever comes next goes on from the saved states.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

LOOK_EVERY_S = 1.0
FIRST_PAUSE_S = 1.0
# A rollout that nobody watches is to be driven again within a minute, whatever went wrong before.
LONGEST_PAUSE_S = 30.0
# A hundred that begin at once would look at once ever after, all of them in each other's way.
BEGINNINGS_APART_S = 0.02
STEADY_AFTER_S = 60.0  # what was driven for so long starts again with the first pause


class Halted(Exception):
    """This process is to end; the rollout goes on from its saved state, in another one."""


class Watch(Protocol):
    """Who counts what the rollouts do. Called from many threads."""

    def ticked(self, took_s: float, late_s: float) -> None:
        """One tick, and how late it began."""


class FleetClock:
    """The Clock port of one rollout in a fleet: polls keep their rhythm, however long a tick takes."""

    def __init__(self, halt: threading.Event, watch: Watch) -> None:
        self._halt = halt
        self._watch = watch
        self._due_s = self._woke_s = time.monotonic()

    def now_s(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        """
        Raises:
            Halted: the process is to end.
        """
        now_s = time.monotonic()
        self._watch.ticked(now_s - self._woke_s, max(0.0, self._woke_s - self._due_s))
        # After a tick that took longer than a poll there is nothing to catch up with: counts add up.
        self._due_s = max(self._woke_s + seconds, now_s)
        if self._halt.wait(self._due_s - now_s):
            raise Halted
        self._woke_s = time.monotonic()


@dataclass
class _Driven:
    """One rollout under way. error: what ended its driving, if something did."""

    thread: threading.Thread
    started_s: float
    error: Exception | None = None


@dataclass(frozen=True)
class _Pause:
    """After a failure: not before `until_s`, and after the next one for `next_s`."""

    until_s: float
    next_s: float


@dataclass
class Fleet:
    """
    find: the names whose rollouts are to be driven; those under way are told to it, and may be left out.
    drive: drives the rollout of a name to its end, in a thread of its own, or raises `Halted` when the
        event is set.
    failed: is told what `drive` raised, and after how many seconds it is tried again.
    """

    find: Callable[[frozenset[str]], Iterable[str]]
    drive: Callable[[str, threading.Event], object]
    failed: Callable[[str, Exception, float], None]
    first_pause_s: float = FIRST_PAUSE_S
    longest_pause_s: float = LONGEST_PAUSE_S
    halting: threading.Event = field(default_factory=threading.Event)
    _driven: dict[str, _Driven] = field(default_factory=dict)
    _pauses: dict[str, _Pause] = field(default_factory=dict)

    def look(self) -> None:
        """Begin to drive what is found and is not driven yet. Called from one thread."""
        now_s = time.monotonic()
        for name, driven in list(self._driven.items()):
            if not driven.thread.is_alive():
                del self._driven[name]
                self._ended(name, driven, now_s)
        for name in self.find(self.under_way):
            if name not in self._driven and self._pause(name).until_s <= now_s:
                self._begin(name, now_s)
                self.halting.wait(BEGINNINGS_APART_S)

    @property
    def under_way(self) -> frozenset[str]:
        return frozenset(name for name, driven in self._driven.items() if driven.thread.is_alive())

    def halt(self, within_s: float) -> bool:
        """End every thread between two ticks. Returns whether all have ended in time; what has not is
        ended with the process, and that loses nothing either."""
        self.halting.set()
        until_s = time.monotonic() + within_s
        for driven in self._driven.values():
            driven.thread.join(max(0.0, until_s - time.monotonic()))
        return not any(driven.thread.is_alive() for driven in self._driven.values())

    def _begin(self, name: str, now_s: float) -> None:
        thread = threading.Thread(target=lambda: self._carry_out(name), name=name, daemon=True)
        self._driven[name] = _Driven(thread, now_s)
        thread.start()

    def _carry_out(self, name: str) -> None:
        try:
            self.drive(name, self.halting)
        except Halted:
            pass
        except Exception as error:  # whatever it is, it must stop no other rollout
            self._driven[name].error = error

    def _ended(self, name: str, driven: _Driven, now_s: float) -> None:
        pause = self._pause(name)
        if driven.error is None or now_s - driven.started_s > STEADY_AFTER_S:
            pause = self._no_pause
        if driven.error is None:
            self._pauses.pop(name, None)
            return
        self._pauses[name] = _Pause(now_s + pause.next_s, min(2 * pause.next_s, self.longest_pause_s))
        self.failed(name, driven.error, pause.next_s)

    def _pause(self, name: str) -> _Pause:
        return self._pauses.get(name, self._no_pause)

    @property
    def _no_pause(self) -> _Pause:
        return _Pause(0.0, self.first_pause_s)
