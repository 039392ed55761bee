"""Sends a rollout's notices, beside the rollout: in threads of its own, in bounded time.

Nothing here blocks or fails a rollout. One thread for each address, so that one that hangs delays
nobody else; what cannot be sent is told in the log and by `coalmine status`.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from coalmine.audit.journal import FileJournal, read_about, read_events
from coalmine.audit.report import PAGE
from coalmine.errors import CoalmineError, InputError
from coalmine.notifications.formats import payload
from coalmine.notifications.hooks import Hook
from coalmine.notifications.notices import Notice, due
from coalmine.notifications.sent import Outcome, SentNotices
from coalmine.rollout_spec import NotifySpec

TIMEOUT_S = 3.0  # for each phase of a request: to connect, to send, to be answered
RETRY_AFTER_S = 1.0
CLOSES_WITHIN_S = 10.0  # a notice to an address that never answers, and its retry, take 7

_log = logging.getLogger("coalmine.notifications")


@contextmanager
def notifying(folder: Path, told: Sequence[NotifySpec]) -> Iterator[FileJournal]:
    """The journal of the rollout in `folder`, whose events are told while the block runs, and soon after."""
    notifier = Notifier()
    try:
        yield NotifyingJournal(folder, notifier, [Hook.of(spec) for spec in told])
    finally:
        notifier.close()


class Notifier:
    """Tells whoever is to be told, for any number of rollouts of one process.

    post: sends a body to a URL; raises NotDelivered.
    """

    def __init__(self, post: Callable[[str, object], None] | None = None) -> None:
        self._post = post or post_json
        self._postmen: dict[Hook, _Postman] = {}
        self._lock = threading.Lock()

    def look(self, folder: Path, hooks: Sequence[Hook]) -> None:
        """Something may have happened in the rollout in `folder`. Returns at once."""
        with self._lock:
            for hook in hooks:
                if hook not in self._postmen:
                    self._postmen[hook] = _Postman(hook, self._post)
                self._postmen[hook].look(folder)

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


class NotifyingJournal(FileJournal):
    """A rollout's journal that has its events told."""

    def __init__(self, folder: Path, notifier: Notifier, hooks: Sequence[Hook]) -> None:
        super().__init__(folder)
        self._rollout, self._notifier, self._hooks = folder, notifier, hooks

    def append_event(self, event: Mapping[str, object]) -> None:
        super().append_event(event)
        self._notifier.look(self._rollout, self._hooks)


class NotDelivered(Exception):
    """Why, in words; `worth_a_retry` where it may be better in a moment."""

    def __init__(self, why: str, *, worth_a_retry: bool) -> None:
        super().__init__(why)
        self.worth_a_retry = worth_a_retry


def post_json(url: str, body: object) -> None:
    """
    Raises:
        NotDelivered: no answer, or one that says no. Its words hold no part of the URL, which may be secret.
    """
    try:
        # The answer's body is not read: one that trickles would hold us up.
        with httpx.stream("POST", url, json=body, timeout=TIMEOUT_S) as answer:
            status = answer.status_code
    except httpx.HTTPError as error:
        raise NotDelivered(type(error).__name__, worth_a_retry=True) from error
    except (httpx.InvalidURL, ValueError) as error:
        raise NotDelivered("the address is no URL", worth_a_retry=False) from error
    if not 200 <= status < 300:
        raise NotDelivered(f"it answers {status}", worth_a_retry=status == 429 or status >= 500)


class _Postman(threading.Thread):
    """All that goes to one hook, rollout by rollout, in the order of its events."""

    def __init__(self, hook: Hook, post: Callable[[str, object], None]) -> None:
        super().__init__(name=f"notifications {hook.id}", daemon=True)
        self.hook = hook
        self._post = post
        self._sent: dict[Path, SentNotices] = {}
        self._looks: dict[Path, float] = {}  # when to look at each rollout next
        self._closing = False
        self._wakes = threading.Condition()
        self.start()

    def look(self, folder: Path) -> None:
        with self._wakes:
            self._looks[folder] = 0.0
            self._wakes.notify()

    def close(self) -> None:
        with self._wakes:
            self._closing = True
            self._wakes.notify()

    def run(self) -> None:
        while (folder := self._next()) is not None:
            try:
                self._tell(folder)
            except CoalmineError as error:
                _log.warning("%s: the notices of %s wait: %s", self.hook.name, folder.name, error)

    def _next(self) -> Path | None:
        """The next rollout to look at, once it is time; None when there is nothing more to do."""
        with self._wakes:
            while True:
                now_s = time.time()
                folder = min(self._looks, key=self._looks.__getitem__, default=None)
                if folder is not None and self._looks[folder] <= now_s:
                    del self._looks[folder]
                    return folder
                if self._closing:
                    return None
                self._wakes.wait(None if folder is None else self._looks[folder] - now_s)

    def _tell(self, folder: Path) -> None:
        found = due(read_about(folder), read_events(folder), folder / PAGE, time.time())
        sent = self._sent.setdefault(folder, SentNotices(folder, self.hook))
        for notice in found.notices:
            if notice.told in self.hook.on and notice not in sent:
                self._send(notice, sent)
        if found.again_s is not None:
            with self._wakes:
                self._looks.setdefault(folder, found.again_s)

    def _send(self, notice: Notice, sent: SentNotices) -> None:
        sent.write(notice, Outcome.SENDING)
        try:
            self._post_with_retry(payload(self.hook.format, notice, socket.gethostname()))
        except (NotDelivered, InputError) as error:
            _log.warning("%s: `%s` was not delivered: %s", self.hook.name, notice.told, error)
            sent.write(notice, Outcome.FAILED, str(error))
        else:
            sent.write(notice, Outcome.SENT)

    def _post_with_retry(self, body: object) -> None:
        url = self.hook.url()
        try:
            self._post(url, body)
        except NotDelivered as error:
            if not error.worth_a_retry:
                raise
            time.sleep(RETRY_AFTER_S)
            self._post(url, body)
