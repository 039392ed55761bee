"""HTTP below the routes: a request with its body within limits, and an answer.

Granian hands a request over as an RSGI scope and protocol. Nothing here knows of models.
"""

from __future__ import annotations

import gc
import re
import zlib
from dataclasses import dataclass
from random import getrandbits
from typing import Any

import orjson
from granian.rsgi import ProtocolClosed

from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.tracing import TraceContext
from coalmine.serving.tracing import parse as parse_trace

MAX_BODY_BYTES = 8 * 2**20
REQUEST_ID = "x-request-id"
JSON = "application/json"

# An id travels in a header too, and is kept until its label comes.
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_LARGE_BYTES = 2**16
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


@dataclass(slots=True)
class Answer:
    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Request:
    """One request. `id` is the header's or a new one; a body may bring its own. `content` is the body,
    once it was read, unpacked."""

    __slots__ = ("_protocol", "content", "headers", "id")

    def __init__(self, scope: Any, protocol: Any) -> None:
        self._protocol = protocol
        self.content = b""
        self.headers = scope.headers
        given = self.headers.get(REQUEST_ID)
        # A proxy that writes strange ids is no reason to refuse a user.
        self.id: str = given if given is not None and is_request_id(given) else f"{getrandbits(128):032x}"

    @property
    def trace(self) -> TraceContext | None:
        """The trace that it belongs to."""
        return parse_trace(self.headers.get("traceparent"))

    async def body(self) -> bytes:
        """The whole body, unpacked.

        Raises:
            Refusal: too large, cut off, or packed in a way that this server does not know.
        """
        length = self.headers.get("content-length")
        if length is None:
            body = await self._streamed()
        elif len(length) > 12 or int(length) > MAX_BODY_BYTES:
            raise _too_large()
        else:
            try:
                body = await self._protocol()
            except ProtocolClosed as error:  # read by nobody, but counted: it is no failure of the server
                raise Refusal(FailureKind.MALFORMED, f"the body ended before its {length} bytes") from error
        packed = self.headers.get("content-encoding")
        self.content = body if packed is None else _unpacked(body, packed)
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

    async def _streamed(self) -> bytes:
        """A body whose length nobody told; no more of it is held than is allowed."""
        chunks, size = [], 0
        async for chunk in self._protocol:
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise _too_large()
            chunks.append(chunk)
        return b"".join(chunks)


def is_request_id(value: object) -> bool:
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


async def json_body(request: Request) -> Any:
    """
    Raises:
        Refusal: as `Request.body`; another content type, or not JSON in UTF-8.
    """
    request.require_media_type(JSON)
    return parse_json(await request.body())


def parse_json(text: bytes | memoryview) -> Any:
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
                raise _too_large()
            if not unpacker.eof or unpacker.unused_data:
                raise Refusal(FailureKind.MALFORMED, f"the {packed} body is not one whole stream")
            return whole
    raise Refusal(
        FailureKind.MALFORMED,
        f"content-encoding {shown(packed)} is not known here: send gzip, deflate, or none",
        415,
        (("accept-encoding", "gzip, deflate"),),
    )


def _too_large() -> Refusal:
    return Refusal(
        FailureKind.TOO_LARGE,
        f"the body is larger than {MAX_BODY_BYTES} bytes: send the rows in several requests",
        413,
    )
