"""HTTP/1.1 as one connection speaks it: order, offers, limits, and clients that go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from coalmine.serving.connection import MAX_HEAD_BYTES, Connection, Connections
from coalmine.serving.http import Answer, Request
from coalmine.serving.refusal import FailureKind, Refusal
from tests.serving.in_process import Transport


class Echo:
    """Answers with the request's target and body; those of /later when it is told to."""

    headers = (("x-who", "echo"),)
    is_ready = True

    def __init__(self) -> None:
        self.later: list[Request] = []
        self.refused: list[FailureKind] = []

    def handle(self, request: Request) -> None:
        if request.target == b"/later":
            self.later.append(request)
        else:
            self.answer(request)

    def answer(self, request: Request) -> None:
        request.respond(request, Answer(request.target + b" " + request.body))

    def refuse(self, request: Request, refusal: Refusal) -> None:
        self.refused.append(refusal.kind)
        request.respond(request, Answer(str(refusal).encode(), refusal.status))


class Talk:
    """One connection to an Echo."""

    def __init__(self, timeout_s: float = 10.0, head_within_s: float = 10.0) -> None:
        self.app = Echo()
        self.connections = Connections(self.app, timeout_s, head_within_s)
        self.transport, self.connection = self.connect()

    def connect(self) -> tuple[Transport, Connection]:
        transport, connection = Transport(), self.connections()
        connection.connection_made(cast(asyncio.Transport, transport))
        return transport, connection

    def say(self, *lines: str, body: bytes = b"") -> None:
        self.connection.data_received("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    @property
    def statuses(self) -> list[int]:
        return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d+) ", self.transport.said)]

    @property
    def bodies(self) -> list[bytes]:
        return re.findall(rb"\r\n\r\n((?:(?!HTTP/1\.1 )[\s\S])*)", self.transport.said)


def told(story: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """`story` as a test, within an event loop."""

    def run() -> None:
        asyncio.run(cast("asyncio.Future[None]", story()))  # a coroutine

    run.__name__ = story.__name__
    run.__doc__ = story.__doc__
    return run


@told
async def test_an_answer_has_a_date_a_length_an_id_and_the_applications_headers() -> None:
    talk = Talk()
    talk.say("GET /a HTTP/1.1", "x-request-id: mine")
    head = talk.transport.said.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    assert head[0] == "http/1.1 200 ok"
    assert {"x-who: echo", "x-request-id: mine", "content-length: 3"} < set(head)
    assert any(re.fullmatch(r"date: \w{3}, \d\d \w{3} \d{4} [\d:]{8} gmt", line) for line in head)


@told
async def test_the_head_of_an_answer_comes_without_its_body() -> None:
    talk = Talk()
    talk.say("HEAD /a HTTP/1.1")
    assert talk.transport.said.endswith(b"content-length: 3\r\n\r\n")


@told
async def test_pipelined_requests_are_answered_in_their_order() -> None:
    talk = Talk()
    for target in ("/later", "/2", "/3"):
        talk.say(f"POST {target} HTTP/1.1", "content-length: 1", body=b"x")
    assert talk.statuses == []
    talk.app.answer(talk.app.later[0])
    await asyncio.sleep(0.01)
    assert talk.bodies == [b"/later x", b"/2 x", b"/3 x"]


@told
async def test_thousands_of_requests_in_one_piece_are_answered() -> None:
    talk = Talk()
    talk.connection.data_received(b"GET /later HTTP/1.1\r\n\r\n" + b"GET /a HTTP/1.1\r\n\r\n" * 5000)
    talk.app.answer(talk.app.later[0])
    await asyncio.sleep(0.5)
    assert talk.statuses == [200] * 5001


@told
async def test_nonsense_behind_a_request_is_refused_after_its_answer() -> None:
    talk = Talk()
    talk.say("GET /later HTTP/1.1")
    talk.connection.data_received(b"\x16\x03\x01")
    talk.say("GET /never HTTP/1.1")
    assert talk.statuses == []
    talk.app.answer(talk.app.later[0])
    await asyncio.sleep(0.01)
    assert talk.statuses == [200, 400]
    assert talk.app.refused == [FailureKind.MALFORMED]


@told
async def test_an_offer_of_another_protocol_is_passed_over_with_its_body_kept() -> None:
    """As Java's client makes it with the first request of a connection."""
    talk = Talk()
    offer = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    talk.say("POST /a HTTP/1.1", "content-length: 4", *offer, body=b"body")
    talk.say("GET /b HTTP/1.1", *offer)
    talk.say("GET /c HTTP/1.1")
    await asyncio.sleep(0.01)
    assert talk.bodies == [b"/a body", b"/b ", b"/c "]


@told
async def test_who_asks_whether_to_go_on_is_told_to() -> None:
    talk = Talk()
    talk.say("POST /a HTTP/1.1", "content-length: 4", "expect: 100-continue")
    assert talk.transport.said == b"HTTP/1.1 100 Continue\r\n\r\n"
    talk.connection.data_received(b"body")
    assert talk.statuses == [100, 200]


@told
async def test_who_asks_whether_to_send_too_much_is_told_not_to() -> None:
    talk = Talk()
    talk.say("POST /a HTTP/1.1", "content-length: 99999999", "expect: 100-continue")
    assert talk.statuses == [413]


@pytest.mark.parametrize(
    "lines", [("GET /a HTTP/1.0",), ("GET /a HTTP/1.1", "connection: close")], ids=["HTTP/1.0", "close"]
)
def test_a_connection_that_is_not_kept_is_closed_after_its_answer(lines: tuple[str, ...]) -> None:
    @told
    async def story() -> None:
        talk = Talk()
        talk.say(*lines)
        assert talk.statuses == [200]
        assert b"\r\nconnection: close\r\n" in talk.transport.said
        assert talk.transport.is_closed

    story()


@told
async def test_a_head_without_end_is_refused() -> None:
    talk = Talk()
    talk.connection.data_received(b"GET / HTTP/1.1\r\nx: ")
    for _ in range(MAX_HEAD_BYTES // 1000 + 1):
        talk.connection.data_received(b"a" * 1000)
    assert talk.statuses == [431]


@told
async def test_who_has_sent_all_still_gets_the_answer() -> None:
    talk = Talk()
    talk.say("GET /later HTTP/1.1")
    assert talk.connection.eof_received()
    assert not talk.transport.is_closed
    talk.app.answer(talk.app.later[0])
    assert talk.statuses == [200]
    assert talk.transport.is_closed


@told
async def test_the_request_of_who_has_gone_is_over() -> None:
    talk = Talk()
    talk.say("GET /later HTTP/1.1")
    talk.transport.close()
    talk.connection.connection_lost(None)
    assert talk.app.refused == [FailureKind.GONE]
    assert talk.app.later[0].is_over


@told
async def test_an_answer_that_nobody_waits_for_any_more_is_the_only_one() -> None:
    """The kernel's word that the client has gone may come before ours."""
    talk = Talk()
    talk.say("GET /later HTTP/1.1")
    talk.transport.close()
    talk.app.answer(talk.app.later[0])
    talk.connection.connection_lost(None)
    assert talk.app.refused == []


@told
async def test_a_body_that_breaks_off_is_told_and_counted() -> None:
    talk = Talk()
    talk.say("POST /a HTTP/1.1", "content-length: 4", body=b"b")
    talk.connection.eof_received()
    assert talk.app.refused == [FailureKind.MALFORMED]
    assert talk.statuses == [400]


@told
async def test_a_client_that_does_not_read_its_answers_is_let_go() -> None:
    talk = Talk(timeout_s=0.05)
    talk.connection.pause_writing()
    talk.say("GET /a HTTP/1.1")
    assert talk.statuses == []  # no more is written for it
    await asyncio.sleep(0.2)
    assert talk.transport.is_closed


@told
async def test_a_client_that_reads_again_gets_what_it_asked_for() -> None:
    talk = Talk()
    talk.connection.pause_writing()
    talk.say("GET /a HTTP/1.1")
    talk.connection.resume_writing()
    assert talk.bodies == [b"/a "]


@told
async def test_who_leaves_answers_everybody_and_waits_for_those_who_have_just_come() -> None:
    talk = Talk()
    talk.say("GET /later HTTP/1.1")
    newcomer, new = talk.connect()
    stranger, _ = talk.connect()
    talk.app.is_ready = False
    leaving = asyncio.ensure_future(talk.connections.leave(newcomers_within_s=0.1))
    await asyncio.sleep(0.05)
    assert not newcomer.is_closed
    new.data_received(b"GET /a HTTP/1.1\r\n\r\n")
    assert newcomer.said.endswith(b"/a ")
    assert newcomer.is_closed  # each answer of a server that leaves is the last one
    await asyncio.sleep(0.1)
    assert stranger.is_closed
    assert not leaving.done()
    talk.app.answer(talk.app.later[0])
    for transport, connection in ((newcomer, new), (stranger, _), (talk.transport, talk.connection)):
        assert transport.is_closed
        connection.connection_lost(None)
    await asyncio.wait_for(leaving, 1)
