"""Sends a rollout's notices, beside the rollout: in threads of its own, in bounded time.

Nothing here blocks or fails a rollout. One thread for each address, so that one that hangs delays
nobody else; what cannot be sent is told in the log and by `coalmine status`.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coalmine.audit.report import PAGE
from coalmine.errors import CoalmineError, InputError, Unavailable
from coalmine.journals.journal import read_about, read_events
from coalmine.journals.lines import Lines
from coalmine.journals.rollouts import Rollouts
from coalmine.notifications.formats import payload
from coalmine.notifications.hooks import Hook
from coalmine.notifications.notices import Notice, due
from coalmine.notifications.posting import NotDelivered, Post, post_json, post_to
from coalmine.notifications.sent import Outcome, SentNotices
from coalmine.rollout.ports import Journal, Request
from coalmine.rollout_spec import NotifySpec

ASK_AGAIN_S = 5.0  # a cluster that could not say what was sent already
CLOSES_WITHIN_S = 10.0  # a notice to an address that never answers, and its retry, take 7

_log = logging.getLogger("coalmine.notifications")


@contextmanager
def notifying(rollouts: Rollouts, folder: Path, told: Sequence[NotifySpec]) -> Iterator[Journal]:
    """The journal of the rollout in `folder`, whose events are told while the block runs, and soon after."""
    notifier = Notifier()
    audience = Audience(folder, tuple(Hook.of(spec) for spec in told), rollouts.notices(folder))
    try:
        yield NotifyingJournal(rollouts.journal(folder), notifier, audience)
    finally:
        notifier.close()


@dataclass(frozen=True)
class Audience:
    """Who is told of the rollout in `folder`. sent: what they were told already."""

    folder: Path
    hooks: tuple[Hook, ...]
    sent: Lines


class Notifier:
    """Tells whoever is to be told, for any number of rollouts of one process."""

    def __init__(self, post: Post = post_json) -> None:
        self._post = post
        self._postmen: dict[Hook, _Postman] = {}
        self._lock = threading.Lock()

    def look(self, audience: Audience) -> None:
        """Something may have happened in the audience's rollout. Returns at once."""
        with self._lock:
            for hook in audience.hooks:
                if hook not in self._postmen:
                    self._postmen[hook] = _Postman(hook, self._post)
                self._postmen[hook].look(audience)

    def close(self, within_s: float = CLOSES_WITHIN_S) -> None:
        """What is due by now is sent, or given up after `within_s`."""
        with self._lock:
            postmen, self._postmen = list(self._postmen.values()), {}
        ends = time.monotonic() + within_s
        for postman in postmen:
            postman.close()
        for postman in postmen:
            postman.join(max(0.0, ends - time.monotonic()))
            if postman.is_alive():
                _log.warning("%s: not all was sent before the process ended", postman.hook.name)


class NotifyingJournal:
    """The Journal port over another journal, whose events it has told."""

    def __init__(self, journal: Journal, notifier: Notifier, audience: Audience) -> None:
        self._journal, self._notifier, self._audience = journal, notifier, audience

    def lease(self) -> AbstractContextManager[None]:
        return self._journal.lease()

    def load(self) -> dict[str, Any] | None:
        return self._journal.load()

    def save(self, state: Mapping[str, object]) -> None:
        self._journal.save(state)

    def append_event(self, event: Mapping[str, object]) -> None:
        self._journal.append_event(event)
        self._notifier.look(self._audience)

    def append_tick(self, tick: Mapping[str, object]) -> None:
        self._journal.append_tick(tick)

    def take_requests(self) -> Sequence[Request]:
        return self._journal.take_requests()


@dataclass(frozen=True)
class _Look:
    """When to look at a rollout next."""

    audience: Audience
    due_s: float


class _Postman(threading.Thread):
    """All that goes to one hook, rollout by rollout, in the order of its events."""

    def __init__(self, hook: Hook, post: Post) -> None:
        super().__init__(name=f"notifications {hook.id}", daemon=True)
        self.hook = hook
        self._post = post
        self._sent: dict[Path, SentNotices] = {}
        self._looks: dict[Path, _Look] = {}
        self._closing = False
        self._wakes = threading.Condition()
        self.start()

    def look(self, audience: Audience) -> None:
        with self._wakes:
            self._looks[audience.folder] = _Look(audience, 0.0)
            self._wakes.notify()

    def close(self) -> None:
        with self._wakes:
            self._closing = True
            self._wakes.notify()

    def run(self) -> None:
        while (audience := self._next()) is not None:
            try:
                self._tell(audience)
            except CoalmineError as error:
                _log.warning("%s: the notices of %s wait: %s", self.hook.name, audience.folder.name, error)
                if isinstance(error, Unavailable):
                    self._look_again(audience, time.time() + ASK_AGAIN_S)

    def _next(self) -> Audience | None:
        """Of the next rollout to look at, once it is time; None when there is nothing more to do."""
        with self._wakes:
            while True:
                now_s = time.time()
                look = min(self._looks.values(), key=lambda each: each.due_s, default=None)
                if look is not None and look.due_s <= now_s:
                    del self._looks[look.audience.folder]
                    return look.audience
                if self._closing:
                    return None
                self._wakes.wait(None if look is None else look.due_s - now_s)

    def _look_again(self, audience: Audience, due_s: float) -> None:
        with self._wakes:
            self._looks.setdefault(audience.folder, _Look(audience, due_s))

    def _tell(self, audience: Audience) -> None:
        folder = audience.folder
        found = due(read_about(folder), read_events(folder), folder / PAGE, time.time())
        if folder not in self._sent:
            self._sent[folder] = SentNotices(audience.sent, self.hook)
        for notice in found.notices:
            if notice.told in self.hook.on and self._sent[folder].begin(notice):
                self._send(notice, self._sent[folder])
        if found.again_s is not None:
            self._look_again(audience, found.again_s)

    def _send(self, notice: Notice, sent: SentNotices) -> None:
        try:
            post_to(self.hook, payload(self.hook.format, notice, socket.gethostname()), self._post)
        except (NotDelivered, InputError) as error:
            _log.warning("%s: `%s` was not delivered: %s", self.hook.name, notice.told, error)
            sent.end(notice, Outcome.FAILED, str(error))
        else:
            sent.end(notice, Outcome.SENT)
