"""Notices reach their addresses once each, whatever happens to the runner, and never disturb a rollout."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import InputError
from coalmine.journals.journal import FileJournal, begin
from coalmine.journals.lines import FileLines
from coalmine.journals.rollouts import NOTICES
from coalmine.notifications import posting as module
from coalmine.notifications.formats import Format
from coalmine.notifications.hooks import Hook
from coalmine.notifications.notices import Told
from coalmine.notifications.notifier import Audience, Notifier, NotifyingJournal
from coalmine.notifications.posting import NotDelivered, post_json
from coalmine.notifications.sent import undelivered as undelivered_in
from coalmine.rollout.events import Event, EventKind
from tests.journals.fake_rollouts import FakeRollout
from tests.local.harness import eventually

K = EventKind
HOOK = Hook("https://hooks.example/secret", Format.JSON, frozenset(Told))


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_AFTER_S", 0.01)


class Inbox:
    """What was posted; `refuses` so many times first."""

    def __init__(self, refuses: int = 0, *, worth_a_retry: bool = True) -> None:
        self.refuses, self.worth_a_retry = refuses, worth_a_retry
        self.bodies: list[Any] = []

    def __call__(self, _: str, body: Any) -> None:
        if self.refuses:
            self.refuses -= 1
            raise NotDelivered("it answers 503", worth_a_retry=self.worth_a_retry)
        self.bodies.append(body)

    @property
    def told(self) -> list[str]:
        return [body["told"] for body in self.bodies]


def journal_of(folder: Path, notifier: Notifier, *hooks: Hook) -> NotifyingJournal:
    audience = Audience(folder, hooks, FileLines(folder / NOTICES))
    return NotifyingJournal(FileJournal(folder), notifier, audience)


def undelivered(folder: Path) -> list[str]:
    return undelivered_in(FileLines(folder / NOTICES).read())


def run(folder: Path, post: Callable[[str, Any], None], *kinds: EventKind, hook: Hook = HOOK) -> None:
    """A runner that tells the rollout's events from the first on, as after a kill, and ends."""
    notifier = Notifier(post)
    journal = journal_of(folder, notifier, hook)
    for number, kind in enumerate(kinds):
        journal.append_event(Event(number, 1000.0 + number, kind, "So it is.", 5).to_json())
    notifier.close()


def rollout(tmp_path: Path) -> Path:
    return begin(tmp_path, FakeRollout().about)


def test_each_event_is_told_once_however_often_a_runner_starts_anew(tmp_path: Path) -> None:
    folder, inbox = rollout(tmp_path), Inbox()
    run(folder, inbox, K.STARTED, K.STAGE_STARTED)
    run(folder, inbox, K.STARTED, K.STAGE_STARTED, K.ROLLING_BACK, K.ROLLED_BACK)
    run(folder, inbox, K.STARTED, K.STAGE_STARTED, K.ROLLING_BACK, K.ROLLED_BACK)
    assert inbox.told == ["started", "advanced", "rolled-back"]


def test_a_runner_killed_while_sending_sends_none_twice_and_status_says_what_may_be_lost(
    tmp_path: Path,
) -> None:
    folder = rollout(tmp_path)
    run(folder, Inbox(), K.STARTED)
    lines = (folder / NOTICES).read_text().splitlines()
    (folder / NOTICES).write_text(lines[0] + "\n")  # killed before it knew
    inbox = Inbox()
    run(folder, inbox, K.STARTED)
    assert inbox.told == []
    assert undelivered(folder) == [
        "`started` is on its way to json webhook hooks.example, or was lost when the runner ended"
    ]


def test_of_two_runners_that_know_the_same_one_tells_it(tmp_path: Path) -> None:
    folder, inbox = rollout(tmp_path), Inbox()
    old, new = Notifier(inbox), Notifier(inbox)
    for number, notifiers in enumerate(((old, new), (new, old))):
        for notifier in notifiers:
            journal = journal_of(folder, notifier, HOOK)
            kind = (K.STARTED, K.ROLLING_BACK)[number]
            journal.append_event(Event(number, 1000.0 + number, kind, "So it is.", 5).to_json())
            eventually(lambda told=number: len(inbox.told) > told, "it is told")
    old.close()
    new.close()
    assert inbox.told == ["started", "rolled-back"]


def test_two_addresses_are_told_apart(tmp_path: Path) -> None:
    folder, first, second = rollout(tmp_path), Inbox(), Inbox()
    run(folder, first, K.STARTED)
    other = Hook("https://other.example/", Format.JSON, frozenset(Told))
    run(folder, second, K.STARTED, hook=other)
    assert (first.told, second.told) == (["started"], ["started"])


def test_only_what_was_asked_for_is_told(tmp_path: Path) -> None:
    inbox = Inbox()
    hook = Hook("https://hooks.example/", Format.JSON, frozenset({Told.ROLLED_BACK}))
    run(rollout(tmp_path), inbox, K.STARTED, K.STAGE_STARTED, K.ROLLING_BACK, hook=hook)
    assert inbox.told == ["rolled-back"]


@pytest.mark.parametrize(
    ("refuses", "worth_a_retry", "arrives"),
    [(1, True, True), (2, True, False), (1, False, False)],
    ids=["one refusal is tried again", "two are not", "a refusal for good is not"],
)
def test_a_refused_notice(tmp_path: Path, refuses: int, worth_a_retry: bool, arrives: bool) -> None:
    folder, inbox = rollout(tmp_path), Inbox(refuses, worth_a_retry=worth_a_retry)
    run(folder, inbox, K.STARTED)
    assert inbox.told == (["started"] if arrives else [])
    failed = "`started` was not delivered to json webhook hooks.example: it answers 503"
    assert undelivered(folder) == ([] if arrives else [failed])


def test_an_address_that_hangs_holds_up_neither_the_rollout_nor_another_address(tmp_path: Path) -> None:
    folder, told = rollout(tmp_path), threading.Event()
    hangs, quick = HOOK, Hook("https://quick.example/", Format.JSON, frozenset(Told))
    released = threading.Event()

    def post(url: str, _: object) -> None:
        told.set() if "quick" in url else released.wait(10)

    notifier = Notifier(post)
    journal = journal_of(folder, notifier, hangs, quick)
    journal.append_event(Event(0, 1.0, K.STARTED, "Started.", 0).to_json())
    assert told.wait(5)
    assert not released.is_set()
    began = time.monotonic()
    notifier.close(within_s=0.2)
    assert time.monotonic() - began < 5
    released.set()


def test_an_address_from_the_environment_stays_out_of_logs_and_of_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = rollout(tmp_path)
    hook = Hook("$PAGER", Format.SLACK, frozenset(Told))
    monkeypatch.setenv("PAGER", "http://127.0.0.1:9/services/T0SECRET")
    monkeypatch.setattr(module, "TIMEOUT_S", 1.0)
    run(folder, post_json, K.STARTED, hook=hook)
    told = (folder / NOTICES).read_text() + caplog.text
    assert "was not delivered" in caplog.text
    assert "SECRET" not in told
    assert "slack webhook $PAGER" in told


def test_an_environment_variable_that_is_not_set_is_told_and_fails_nothing(tmp_path: Path) -> None:
    folder = rollout(tmp_path)
    run(folder, Inbox(), K.STARTED, hook=Hook("$NOBODY_SET_THIS", Format.SLACK, frozenset(Told)))
    assert "NOBODY_SET_THIS is not set where this runs" in undelivered(folder)[0]
    with pytest.raises(InputError, match="holds no URL"):
        Hook("$A", Format.JSON, frozenset()).url({"A": "hooks.example"})


@contextmanager
def service(status: int) -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_real_service_gets_the_body_as_json() -> None:
    with service(202) as (url, bodies):
        post_json(url, {"text": "ä"})
    assert json.loads(bodies[0]) == {"text": "ä"}


@pytest.mark.parametrize(("status", "retry"), [(302, False), (404, False), (429, True), (503, True)])
def test_an_answer_that_says_no_is_no_delivery(status: int, retry: bool) -> None:
    with service(status) as (url, _), pytest.raises(NotDelivered, match=str(status)) as refused:
        post_json(url, {})
    assert refused.value.worth_a_retry is retry
