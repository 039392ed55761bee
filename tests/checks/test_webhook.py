from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from coalmine.checks.webhook import AskedAbout, WebhookCheck
from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import Asked, CheckResult
from coalmine.rollout_spec import WebhookSpec
from coalmine.slots import Slot
from tests.contracts.check import CheckContract

ABOUT = AskedAbout("credit-risk", "1.4.0", "1.4.0-20261125", "production")
ASKED = Asked(Slot.GREEN, "25 %", {Slot.GREEN: 25, Slot.BLUE: 75}, 0.0)


class Hook(BaseHTTPRequestHandler):
    """Answers as its server says, and keeps what it was told."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append(json.loads(body))
        self.server.waits.wait(self.server.hangs_s)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        for byte in self.server.body if self.server.drips_s else [self.server.body]:
            self.wfile.write(byte if isinstance(byte, bytes) else bytes([byte]))
            if self.server.waits.wait(self.server.drips_s):
                return

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.told: list[dict[str, Any]] = []
        self.status, self.body, self.headers = 200, b"", dict[str, str]()
        self.hangs_s = self.drips_s = 0.0
        self.waits = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked did not wait for the answer."""


@pytest.fixture
def hook() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    yield server
    server.waits.set()
    server.shutdown()
    thread.join()
    server.server_close()


def check(hook: Server, timeout_s: float = 5.0) -> WebhookCheck:
    url = f"http://user:secret@127.0.0.1:{hook.server_address[1]}/ask?token=secret"
    return WebhookCheck(WebhookSpec(gate="webhook", url=url, timeout_s=timeout_s), ABOUT)


class TestWebhookCheck(CheckContract):
    @pytest.fixture
    def check(self, hook: Server) -> WebhookCheck:
        return check(hook)

    @pytest.fixture
    def spoil(self, hook: Server) -> Callable[[], None]:
        return lambda: setattr(hook, "status", 409)

    @pytest.fixture
    def cut(self, hook: Server) -> Callable[[], None]:
        return hook.server_close


def test_it_is_told_where_the_rollout_stands(hook: Server) -> None:
    check(hook).look(ASKED)
    assert hook.told == [
        {
            "model": "credit-risk",
            "version": "1.4.0",
            "rollout": "1.4.0-20261125",
            "environment": "production",
            "candidate": "green",
            "stage": "25 %",
            "weights": {"blue": 75, "green": 25},
        }
    ]


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        pytest.param(200, b"", Verdict.PASS, id="200"),
        pytest.param(204, b"", Verdict.PASS, id="204"),
        pytest.param(200, b"fine", Verdict.PASS, id="200 with text"),
        pytest.param(200, b'["fail"]', Verdict.PASS, id="200 with another JSON"),
        pytest.param(200, b'{"verdict": "pass"}', Verdict.PASS, id="pass"),
        pytest.param(200, b'{"verdict": "fail"}', Verdict.FAIL, id="fail"),
        pytest.param(200, b'{"verdict": "wait"}', Verdict.INCONCLUSIVE, id="wait"),
        pytest.param(200, b'{"verdict": "maybe"}', Verdict.ERROR, id="another word"),
        pytest.param(200, b'{"sentence": "%s"}' % (b"x" * 501), Verdict.ERROR, id="a long sentence"),
        pytest.param(409, b"", Verdict.FAIL, id="409"),
        pytest.param(400, b"", Verdict.ERROR, id="400"),
        pytest.param(401, b"", Verdict.ERROR, id="401"),
        pytest.param(404, b'{"verdict": "pass"}', Verdict.ERROR, id="404 that says pass"),
        pytest.param(500, b"", Verdict.ERROR, id="500"),
        pytest.param(503, b"", Verdict.ERROR, id="503"),
        pytest.param(200, b"x" * 100_000, Verdict.ERROR, id="a large body"),
    ],
)
def test_what_it_answers_is_a_verdict(hook: Server, status: int, body: bytes, verdict: Verdict) -> None:
    hook.status, hook.body = status, body
    result = check(hook).look(ASKED)
    assert result.verdict is verdict, result.sentence
    assert result.sentence


def test_its_sentence_is_told_on_one_line(hook: Server) -> None:
    hook.body = b'{"verdict": "fail", "sentence": "Two\\n incidents  are open."}'
    assert check(hook).look(ASKED) == CheckResult(Verdict.FAIL, "Two incidents are open.")


def test_a_redirection_is_not_followed(hook: Server) -> None:
    hook.status, hook.headers = 307, {"location": "/elsewhere"}
    assert check(hook).look(ASKED).verdict is Verdict.ERROR
    assert len(hook.told) == 1


@pytest.mark.parametrize("habit", ["hangs_s", "drips_s"])
def test_no_look_takes_longer_than_its_timeout_whatever_the_other_side_does(hook: Server, habit: str) -> None:
    hook.body = b" " * 100
    setattr(hook, habit, 0.25 if habit == "drips_s" else 60.0)
    webhook = check(hook, timeout_s=0.4)
    began_s = time.monotonic()
    result = webhook.look(ASKED)
    assert time.monotonic() - began_s < 5
    assert result.verdict is Verdict.ERROR
    assert "within 0.4 s" in result.sentence


def test_it_is_not_asked_again_while_it_is_still_being_asked(hook: Server) -> None:
    hook.body, hook.drips_s = b" " * 100, 0.25
    webhook = check(hook, timeout_s=0.4)
    sentences = [webhook.look(ASKED).sentence for _ in range(3)]
    assert "not answered the last time" in sentences[-1]
    assert len(hook.told) == 1


def test_nobody_listening_is_an_error_and_no_secret_of_the_url_is_told(hook: Server) -> None:
    webhook = check(hook)
    hook.shutdown()
    hook.server_close()
    result = webhook.look(ASKED)
    assert result.verdict is Verdict.ERROR
    assert "127.0.0.1" in result.sentence
    assert "secret" not in result.sentence
