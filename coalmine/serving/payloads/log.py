"""Chooses requests, and takes them to the sink without the request waiting for it.

Between the two stands a queue, bounded in number and in bytes, and one thread that empties it. What
does not fit is dropped and counted; what the sink does not take is counted as failed. Nothing is
ever raised at a request.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from zlib import crc32

from coalmine.errors import InputError
from coalmine.serving.logs import event
from coalmine.serving.payloads.events import Body, Event, Exchange, Origin, events_of
from coalmine.serving.payloads.file_sink import FileSink
from coalmine.serving.payloads.http_sink import HttpSink
from coalmine.serving.payloads.sink import Sink, SinkFailed

MAX_WAITING = 1024  # exchanges
MAX_WAITING_BYTES = 32 * 2**20
# Writing an event holds the interpreter, and with it the requests, for a time that grows with its size.
MAX_BODY_BYTES = 256 * 2**10
TELL_EVERY_S = 60.0

_JSON = "application/json"


class PayloadLog:
    """written, dropped, failed: events so far; dropped: for want of room, failed: by the sink."""

    def __init__(self, sink: str, sample: float, origin: Origin) -> None:
        """
        sink: a file, or an http(s) URL. sample: the share of the requests, in (0, 1].

        Raises:
            InputError: the sink cannot be opened, or the sample is no share.
        """
        if not 0 < sample <= 1:
            raise InputError(f"--payload-sample {sample:g} is no share: it goes from above 0 up to 1")
        self.written = self.dropped = self.failed = 0
        self._chosen_below = math.ceil(sample * 2**32)
        self._origin = origin
        self._closing = threading.Event()
        self._sink: Sink = HttpSink(sink, self._closing) if "://" in sink else FileSink(Path(sink))
        self._queue: SimpleQueue[Exchange | None] = SimpleQueue()
        self._lock = threading.Lock()  # over the three counts above and the two of the queue
        self._waiting = self._waiting_bytes = 0
        self._told_at_s = float("-inf")
        self._untold = 0
        self._thread = threading.Thread(target=self._drain, name="payloads", daemon=True)
        self._thread.start()

    def counts(self) -> dict[str, int]:
        return {"written": self.written, "dropped": self.dropped, "failed": self.failed}

    def is_chosen(self, request_id: str) -> bool:
        """Whether requests of this id are kept: by its hash alone, so every server chooses the same, and
        a larger share holds the smaller."""
        # CRC-32 is cheap and repeats in any language; the product (2^32 by the golden ratio) breaks up what
        # it leaves of the likeness of ids that count up.
        return crc32(request_id.encode()) * 0x9E3779B1 & 0xFFFFFFFF < self._chosen_below

    def offer(
        self,
        request_id: str,
        request: bytes,
        answer: bytes | None,
        traceparent: str | None = None,
        *,
        request_type: str = _JSON,
        answer_type: str = _JSON,
        request_json_length: str | None = None,
        answer_json_length: str | None = None,
    ) -> None:
        """One request and its answer, both as they went over the wire but unpacked; returns at once.

        answer: None when it was an error. traceparent: the header, unread. ..._type: media types.
        ..._json_length: the headers Inference-Header-Content-Length, with tensors in binary.
        An exchange with a body over 256 KiB is dropped.
        """
        if not self.is_chosen(request_id):
            return
        exchange = Exchange(
            request_id,
            Body(request, request_type, request_json_length),
            None if answer is None else Body(answer, answer_type, answer_json_length),
            traceparent,
            time.time(),
        )
        size = _bytes_in(exchange)
        with self._lock:
            if (
                self._closing.is_set()
                or self._waiting >= MAX_WAITING
                or self._waiting_bytes + size > MAX_WAITING_BYTES
                or len(request) > MAX_BODY_BYTES
                or (answer is not None and len(answer) > MAX_BODY_BYTES)
            ):
                self.dropped += _events_in(exchange)
                return
            self._waiting += 1
            self._waiting_bytes += size
        self._queue.put(exchange)

    def close(self, timeout_s: float) -> None:
        """Write what waits, as far as `timeout_s` allows; the rest counts as dropped."""
        with self._lock:
            self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout_s)
        while self._thread.is_alive():
            try:
                left = self._queue.get_nowait()
            except Empty:
                break
            if left is not None:
                self._left_queue(left, dropped=_events_in(left))
        self._queue.put(None)  # the end may have been taken out just now

    # --- the thread ------------------------------------------------------------------------

    def _drain(self) -> None:
        while exchanges := self._next():
            events = [each for exchange in exchanges for each in events_of(exchange, self._origin)]
            for start in range(0, len(events), self._sink.batch):
                self._write(events[start : start + self._sink.batch])
        self._sink.close()

    def _next(self) -> list[Exchange]:
        """What waits, as much as the sink takes at once; empty at the end."""
        exchanges: list[Exchange] = []
        events = 0
        while events < self._sink.batch:
            try:
                exchange = self._queue.get(block=not exchanges)
            except Empty:
                break
            if exchange is None:
                if exchanges:
                    self._queue.put(None)  # the end comes after these
                break
            self._left_queue(exchange)
            exchanges.append(exchange)
            events += _events_in(exchange)
        return exchanges

    def _write(self, events: list[Event]) -> None:
        try:
            self._sink.write(events)
        except SinkFailed as error:
            self._lose(len(events), str(error))
        except Exception as error:  # one event that cannot be written must not be the end of all others
            self._lose(len(events), type(error).__name__)
        else:
            with self._lock:
                self.written += len(events)

    def _lose(self, events: int, reason: str) -> None:
        with self._lock:
            self.failed += events
        self._untold += events
        now_s = time.monotonic()
        if now_s - self._told_at_s >= TELL_EVERY_S:
            event("payloads_lost", logging.WARNING, kind=reason, events=self._untold)
            self._told_at_s, self._untold = now_s, 0

    def _left_queue(self, exchange: Exchange, dropped: int = 0) -> None:
        with self._lock:
            self._waiting -= 1
            self._waiting_bytes -= _bytes_in(exchange)
            self.dropped += dropped


def _events_in(exchange: Exchange) -> int:
    return 1 if exchange.answer is None else 2


def _bytes_in(exchange: Exchange) -> int:
    return len(exchange.request.data) + (0 if exchange.answer is None else len(exchange.answer.data))
