"""Events to a service: one POST each, in binary mode, over a connection that is kept.

Taken is what is answered 2xx. Where nothing is answered in time, or 429 or 5xx, it is tried twice
more; a service that took it and could not say so gets it again, with the same id. One POST follows
another, so a service that is far away takes as many a second as its answers come back.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from coalmine.errors import InputError
from coalmine.serving.payloads.events import Event, as_headers
from coalmine.serving.payloads.sink import SinkFailed

TIMEOUT_S = 2.0
PAUSES_S = (0.05, 0.5)  # before the second and the third try

_LARGEST_ANSWER_BYTES = 64 * 2**10


class HttpSink:
    batch = 1

    def __init__(self, url: str, closing: threading.Event) -> None:
        """closing: once set, nothing is tried again.

        Raises:
            InputError: not a URL that can be sent to. Whether anybody listens there is not asked.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"--payload-sink {url} is no URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"--payload-sink {url} is neither a file nor an http(s) URL with a host")
        if parts.username is not None:
            raise InputError(
                f"--payload-sink {parts.scheme}://...@{parts.hostname} holds a name or password: secrets do "
                "not belong into model.yaml. Send to a proxy beside the server that adds them"
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=TIMEOUT_S)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._closing = closing

    def write(self, events: Sequence[Event]) -> None:
        (event,) = events
        headers = as_headers(event)
        for pause_s in (*PAUSES_S, None):
            try:
                status = self._post(event.data, headers)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                reason = type(error).__name__
            else:
                if 200 <= status < 300:
                    return
                reason = f"status {status}"
                if status != 429 and status < 500:
                    break
            if pause_s is None or self._closing.wait(pause_s):
                break
        raise SinkFailed(reason)

    def close(self) -> None:
        self._connection.close()

    def _post(self, data: bytes, headers: dict[str, str]) -> int:
        self._connection.request("POST", self._target, data, headers)
        answer = self._connection.getresponse()
        answer.read(_LARGEST_ANSWER_BYTES)
        if not answer.isclosed():  # there is more, which would be taken for the next answer
            self._connection.close()
        return answer.status
