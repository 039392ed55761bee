"""How many requests this process makes of an API server: a token bucket, as client-go's clients have one.

It bounds what a mistake can do to a cluster, and is far from what rollouts need: twenty of them ask some
fifteen times a second (docs/decisions/0029). So nobody waits for it in ordinary times, and who moves users
back does not either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PER_S = 50.0
AT_ONCE = 100


class Pace:
    """At most `at_once` requests at once and `per_s` a second after that. Safe to use from several threads.

    asked: how many there were so far.
    """

    def __init__(
        self,
        per_s: float = PER_S,
        at_once: int = AT_ONCE,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.asked = 0
        self._per_s = per_s
        self._at_once = at_once
        self._now_s = now_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._left = float(at_once)
        self._filled_s = now_s()

    def wait(self) -> None:
        """Return when the next request may be made; first come, first served."""
        with self._lock:
            now_s = self._now_s()
            self._left = min(self._at_once, self._left + (now_s - self._filled_s) * self._per_s)
            self._filled_s = now_s
            self._left -= 1
            self.asked += 1
            late_s = -self._left / self._per_s
        if late_s > 0:
            self._sleep(late_s)
