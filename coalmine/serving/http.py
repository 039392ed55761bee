"""HTTP as values: a request with its body, an answer, and what is wrong with either.

How bytes become a request and an answer becomes bytes is `connection`'s. Nothing here knows of models.
"""

from __future__ import annotations

import gc
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import getrandbits

import orjson

from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.tracing import TraceContext
from coalmine.serving.tracing import parse as parse_trace

MAX_BODY_BYTES = 8 * 2**20
REQUEST_ID = "x-request-id"
JSON = "application/json"

# An id travels in a header too, and is kept until its label comes.
_is_request_id = re.compile(r"[\x21-\x7e]{1,128}").fullmatch
_LARGE_BYTES = 2**16
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


@dataclass(slots=True)
class Answer:
    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Request:
    """One request with its whole body, to be answered once, by whoever calls `respond`.

    headers: those that a server looks at (`connection.READ_HEADERS`), by lower-case name.
    body: as it came; content: unpacked, once it was read. id: the header's or a new one; a body may
        bring its own.
    started_s: when its head was complete, by `time.perf_counter`.
    refusal: what was wrong with it before its last byte came. closes: its connection ends after it.
    is_copy: a proxy mirrored it here, and nobody sees the answer.
    is_over: it was answered, or nobody waits for its answer any more.
    """

    __slots__ = (
        "body",
        "closes",
        "content",
        "headers",
        "id",
        "is_copy",
        "is_inference",
        "is_over",
        "method",
        "refusal",
        "respond",
        "started_s",
        "target",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: dict[str, str],
        body: bytes,
        started_s: float,
        respond: Callable[[Request, Answer], None],
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = self.content = body
        self.started_s = started_s
        self.respond = respond
        self.refusal: Refusal | None = None
        self.closes = self.is_copy = self.is_inference = self.is_over = False
        given = headers.get(REQUEST_ID)
        # A proxy that writes strange ids is no reason to refuse a user.
        self.id = given if given is not None and is_request_id(given) else f"{getrandbits(128):032x}"

    @property
    def trace(self) -> TraceContext | None:
        """The trace that it belongs to."""
        return parse_trace(self.headers.get("traceparent"))

    def read(self) -> bytes:
        """The whole body, unpacked.

        Raises:
            Refusal: packed in a way that this server does not know, or too large when unpacked.
        """
        packed = self.headers.get("content-encoding")
        if packed is not None:
            self.content = _unpacked(self.body, packed)
        return self.content

    def require_media_type(self, *allowed: str) -> None:
        """A body of no declared type passes.

        Raises:
            Refusal: of another one.
        """
        given = self.headers.get("content-type")
        if given is None or given in allowed:
            return
        media_type = given.split(";")[0].strip().lower()
        if media_type not in allowed:
            raise Refusal(
                FailureKind.MALFORMED, f"the body is {shown(media_type)}: send content-type {allowed[0]}", 415
            )


def is_request_id(value: object) -> bool:
    return isinstance(value, str) and _is_request_id(value) is not None


def json_body(request: Request) -> object:
    """
    Raises:
        Refusal: as `Request.read`; another content type, or not JSON in UTF-8.
    """
    request.require_media_type(JSON)
    return parse_json(request.read())


def parse_json(text: bytes | memoryview) -> object:
    """
    Raises:
        Refusal: not JSON in UTF-8.
    """
    # Each thousand of new lists makes the garbage collector look through all that there are: in a large
    # text of nothing but lists that took two thirds of the time.
    is_large = len(text) > _LARGE_BYTES
    if is_large:
        gc.disable()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refusal(
            FailureKind.MALFORMED,
            f"the body is not JSON in UTF-8: {error}. A missing value is null; JSON has no NaN",
        ) from error
    finally:
        if is_large:
            gc.enable()


def error_answer(message: str, status: int, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(orjson.dumps({"error": message}), status, headers=headers)


def too_large() -> Refusal:
    return Refusal(
        FailureKind.TOO_LARGE,
        f"the body is larger than {MAX_BODY_BYTES} bytes: send the rows in several requests",
        413,
    )


def _unpacked(body: bytes, packed: str) -> bytes:
    match packed.strip().lower():
        case "identity" | "":
            return body
        case "gzip" | "deflate":
            unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
            try:
                whole = unpacker.decompress(body, MAX_BODY_BYTES + 1)
            except zlib.error as error:
                raise Refusal(FailureKind.MALFORMED, f"the body is not {packed}: {error}") from error
            if len(whole) > MAX_BODY_BYTES:
                raise too_large()
            if not unpacker.eof or unpacker.unused_data:
                raise Refusal(FailureKind.MALFORMED, f"the {packed} body is not one whole stream")
            return whole
    raise Refusal(
        FailureKind.MALFORMED,
        f"content-encoding {shown(packed)} is not known here: send gzip, deflate, or none",
        415,
        (("accept-encoding", "gzip, deflate"),),
    )
