"""HTTP/1.1 between a client's bytes and the application: one connection, and all of them together.

llhttp (httptools) reads requests, strictly; what is here keeps order, limits and time:

    a head may take `head_within_s` and 64 KiB; a body what `http` allows; a request, from its head to
    its answer, `timeout_s`
    pipelined requests are answered one after the other, and no more is read meanwhile
    a client that does not read its answers is let go, and so is one that says nothing

There is no task for a connection and none for a request: a request is a value that is handed over
with its last byte, and whoever answers it calls `Request.respond`. One look at all connections every
now and then stands for a timer for each.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from coalmine.rollout_spec import SLOT_HEADER
from coalmine.serving.http import MAX_BODY_BYTES, REQUEST_ID, Answer, Request, too_large
from coalmine.serving.refusal import FailureKind, Refusal

MAX_HEAD_BYTES = 2**16
LINGER_S = 2.0  # for a client that still sends to read why it was refused
_LOOKS = 20  # per limit: what takes too long ends at most a twentieth of the limit late

_NAMES = {
    name.encode(): name
    for name in (
        *("content-type", "content-encoding", "content-length", "transfer-encoding", "expect"),
        *("inference-header-content-length", REQUEST_ID, "traceparent", "tracestate", SLOT_HEADER),
    )
}
_GONE = Refusal(FailureKind.GONE, "the client went before its answer was there", 499)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Application(Protocol):
    """headers: those of every answer. is_ready: connections are kept after an answer."""

    headers: tuple[tuple[str, str], ...]
    is_ready: bool

    def handle(self, request: Request) -> None:
        """Answer `request`, now or later; never raises."""

    def refuse(self, request: Request, refusal: Refusal) -> None:
        """Answer a request that broke HTTP or its limits, now; never raises."""


class Connections:
    """All connections of one server: a factory of them, their limits of time, and their end.

    Made within the event loop that it serves in.
    """

    def __init__(self, app: Application, timeout_s: float, head_within_s: float) -> None:
        self.app = app
        self.wire = Wire(app.headers)
        self.now_s = time.perf_counter()  # as of the last look
        self._timeout_s = timeout_s
        self._head_within_s = head_within_s
        self._too_slow = Refusal(
            FailureKind.TIMEOUT,
            f"no answer within {timeout_s:g} s: send fewer rows at once, or the body faster",
            503,
            (("retry-after", "1"),),
        )
        self._open: set[Connection] = set()
        self._watch = asyncio.get_running_loop().create_task(self._look_again_and_again())

    def __call__(self) -> Connection:
        return Connection(self)

    def of_copies(self) -> Connection:
        """One whose requests are copies of others'."""
        return Connection(self, are_copies=True)

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)

    async def leave(self, newcomers_within_s: float) -> None:
        """Return when everybody is answered and gone; nobody new may come any more.

        newcomers_within_s: for the first request of who has connected just now.
        """
        last_s = time.perf_counter() + newcomers_within_s
        while self._open:
            for connection in list(self._open):
                if connection.is_idle and (connection.has_asked or time.perf_counter() > last_s):
                    connection.close()
            await asyncio.sleep(0.01)
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)

    def look(self) -> None:
        """End what takes too long."""
        self.now_s = time.perf_counter()
        self.wire.set_date(time.time())
        for connection in list(self._open):
            connection.look(self.now_s, self._timeout_s, self._head_within_s, self._too_slow)

    async def _look_again_and_again(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(min(self._timeout_s, self._head_within_s, LINGER_S) / _LOOKS)


class Wire:
    """Answers as bytes. All but its id, its length and its body is put together once a second."""

    def __init__(self, headers: tuple[tuple[str, str], ...]) -> None:
        self._always = _lines(headers)
        self._date = b""
        self._heads: dict[tuple[int, str, bool], bytes] = {}
        self.set_date(time.time())

    def set_date(self, now_s: float) -> None:
        date = formatdate(now_s, usegmt=True).encode()
        if date != self._date:
            self._date = date
            self._heads.clear()

    def answer(self, request: Request, answer: Answer, closes: bool) -> bytes:
        kind = answer.status, answer.media_type, closes
        head = self._heads.get(kind)
        if head is None:
            head = self._heads[kind] = self._head(*kind)
        more = _lines(answer.headers) if answer.headers else b""
        body = answer.body
        length = len(body)
        if request.method == b"HEAD":
            body = b""
        return b"%b%b\r\n%bcontent-length: %d\r\n\r\n%b" % (head, request.id.encode(), more, length, body)

    def _head(self, status: int, media_type: str, closes: bool) -> bytes:
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        lines = _lines((("date", self._date.decode()), ("content-type", media_type)))
        last = b"connection: close\r\n" if closes else b""
        return b"HTTP/1.1 %d %b\r\n%b%b%b%b: " % (
            *(status, phrase.encode(), lines, self._always, last),
            REQUEST_ID.encode(),
        )


def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


class Connection(asyncio.Protocol):
    """One client's connection: what was read of the next request, and those that wait for an answer.

    has_asked: a whole head has come at some time.
    """

    _transport: asyncio.Transport

    def __init__(self, connections: Connections, are_copies: bool = False) -> None:
        self._all = connections
        self._are_copies = are_copies
        self._app = connections.app
        self._wire = connections.wire
        self._parser = httptools.HttpRequestParser(self)
        self._answering: Request | None = None
        self._queue: deque[Request] = deque()  # pipelined behind it
        self._has_ended = False  # the client sends no more
        self._is_deaf = False  # its last request is known: what still comes is let go
        self._idle_since_s = connections.now_s
        self._unread_since_s: float | None = None  # the client has not read its answers since
        self._lingers_since_s: float | None = None
        self.has_asked = False
        self._expect_head()

    @property
    def is_idle(self) -> bool:
        """Nothing is to be answered, and nothing is on its way but, at most, a part of a head."""
        return self._answering is None and not self._in_body and self._lingers_since_s is None

    def close(self) -> None:
        """What was written is sent first."""
        self._is_deaf = True
        self._transport.close()

    def look(self, now_s: float, timeout_s: float, head_within_s: float, too_slow: Refusal) -> None:
        """End what takes too long."""
        if self._lingers_since_s is not None:
            if now_s - self._lingers_since_s > LINGER_S:
                self._transport.abort()
        elif self._unread_since_s is not None:
            if now_s - self._unread_since_s > timeout_s:
                self._transport.abort()
        elif self._answering is not None:
            if now_s - self._answering.started_s > timeout_s:
                self._app.refuse(self._answering, too_slow)
        elif self._in_body:
            if now_s - self._started_s > timeout_s:
                self._refuse(too_slow)
        elif now_s - self._idle_since_s > head_within_s:
            self.close()

    # --- the transport's calls ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not inherit from it
        self._all.opened(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._all.closed(self)
        self._queue.clear()
        if self._answering is not None:
            self._app.refuse(self._answering, _GONE)
        elif self._in_body:
            self._refuse(_GONE)
        self._is_deaf = True

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_without_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(Refusal(FailureKind.MALFORMED, f"this is not HTTP/1.1: {error}"))
        if self._head_bytes > MAX_HEAD_BYTES and not self._in_body:
            words = f"the head is larger than {MAX_HEAD_BYTES} bytes: send fewer or shorter headers"
            self._refuse(Refusal(FailureKind.TOO_LARGE, words, 431))

    def eof_received(self) -> bool:
        """A client that has sent all may still wait for its answers."""
        self._has_ended = True
        if self._in_body:
            self._refuse(Refusal(FailureKind.MALFORMED, "the body ended before all of it was there"))
        last = self._queue[-1] if self._queue else self._answering
        if last is None:
            return False
        last.closes = self._is_deaf = True
        return True  # keep what can still be written to

    def pause_writing(self) -> None:
        self._unread_since_s = self._all.now_s
        self._read_or_wait()

    def resume_writing(self) -> None:
        self._unread_since_s = None
        self._go_on()

    # --- the parser's calls ------------------------------------------------------------

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        known = _NAMES.get(name.lower())
        if known is not None and not self._in_body and known not in self._headers:
            self._headers[known] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.has_asked = self._in_body = True
        self._started_s = time.perf_counter()
        headers = self._headers
        length = headers.get("content-length", "0")
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            self._refuse(too_large())
        elif "expect" in headers and self._answering is None and not self._parser.should_upgrade():
            self._transport.write(_CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_BODY_BYTES:
            self._refuse(too_large())

    def on_message_complete(self) -> None:
        parser = self._parser
        if not self._is_deaf and not parser.should_upgrade():
            request = self._request()
            request.closes = not parser.should_keep_alive() or parser.get_http_version() == "1.0"
            self._expect_head()
            self._take(request)

    # --- reading -----------------------------------------------------------------------

    def _expect_head(self) -> None:
        self._in_body = False
        self._head_bytes = self._size = 0
        self._target = b""
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    def _request(self) -> Request:
        """The whole request, or what has come of one that is refused."""
        chunks = self._chunks
        request = Request(
            self._parser.get_method() if self._in_body else b"",
            self._target,
            self._headers,
            chunks[0] if len(chunks) == 1 else b"".join(chunks),
            self._started_s if self._in_body else time.perf_counter(),
            self._respond,
        )
        request.is_copy = self._are_copies
        return request

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Who offers another protocol, such as h2c, is answered in this one."""
        request = self._request()
        if request.method == b"CONNECT":
            return self._refuse(Refusal(FailureKind.NOT_FOUND, "this server is no proxy", 405))
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (
            *(request.method, request.target),
            _lines(tuple(request.headers.items())),
        )
        self._parser = httptools.HttpRequestParser(self)
        self._expect_head()
        return self.data_received(head + rest)

    def _refuse(self, refusal: Refusal) -> None:
        """The last answer of this connection, after those that are due."""
        if not self._is_deaf:
            self._is_deaf = True
            request = self._request()
            request.closes, request.refusal = True, refusal
            self._take(request)

    def _read_or_wait(self) -> None:
        if self._transport.is_closing():
            return
        if self._queue or self._unread_since_s is not None:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # --- answering ---------------------------------------------------------------------

    def _take(self, request: Request) -> None:
        if self._answering is None and self._unread_since_s is None:
            self._answer(request)
        else:
            self._queue.append(request)
            self._read_or_wait()

    def _answer(self, request: Request) -> None:
        self._answering = request
        if request.refusal is None:
            self._app.handle(request)
        else:
            self._app.refuse(request, request.refusal)

    def _respond(self, request: Request, answer: Answer) -> None:
        request.is_over = True
        self._answering = None
        if self._transport.is_closing():
            return
        closes = request.closes or (not self._app.is_ready and not self._queue)
        self._transport.write(self._wire.answer(request, answer, closes))
        self._idle_since_s = self._all.now_s
        if closes:
            self._end(request)
        elif self._queue:
            # Not here: each of a thousand pipelined requests would stand on the one before.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._queue and self._answering is None and self._unread_since_s is None:
            self._answer(self._queue.popleft())
        self._read_or_wait()

    def _end(self, last: Request) -> None:
        if last.refusal is None or self._has_ended:
            self.close()
        else:
            # Closed at once, what it still sends would take the answer from it.
            self._lingers_since_s = self._all.now_s
            self._transport.write_eof()
