"""One HTTP server of this machine, asked again and again over a connection that is kept.

Polling is what a rollout does most, and half the price of a small request is its connection.
A caller that must know whether it still speaks with the same process looks at `Answer.connection`.
"""

from __future__ import annotations

import http.client
import socket
import threading
import weakref
from collections import defaultdict
from dataclasses import dataclass

# Envoy answers its admin requests in one thread. A hundred rollouts that ask it at once would each wait
# longer than they may, ask again, and so keep it from ever answering anybody: the rest waits here, for its
# turn, and its time begins with that.
AT_ONCE = 4

_turns: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(AT_ONCE)
)
_turns_lock = threading.Lock()


class Unreachable(Exception):
    """Nobody answers, in the words of the system."""


@dataclass(frozen=True)
class Answer:
    """connection: counts the connections that were made; over one of them one process answers."""

    status: int
    body: bytes
    connection: int


class Endpoint:
    """address: `host:port`. timeout_s: for each step of a request. largest: bytes of an answer."""

    def __init__(self, address: str, timeout_s: float, largest: int = 1 << 26) -> None:
        self.address = address
        self._largest = largest
        self._http = http.client.HTTPConnection(address, timeout=timeout_s)
        self._connections = 0
        self._lock = threading.Lock()
        with _turns_lock:
            self._turn = _turns[address]
        weakref.finalize(self, self._http.close)

    def get(self, path: str) -> Answer:
        """
        Raises:
            Unreachable: no answer, or one that is none.
        """
        with self._lock, self._turn:
            if self._http.sock is not None:
                try:
                    return self._ask(path)
                except (OSError, http.client.HTTPException) as error:
                    self._http.close()
                    if isinstance(error, TimeoutError):
                        raise Unreachable(_words(error)) from error
                    # The other end had closed the kept connection, or was started anew: once more.
            try:
                self._http.connect()
                self._connections += 1
                return self._ask(path)
            except (OSError, http.client.HTTPException) as error:
                self._http.close()
                raise Unreachable(_words(error)) from error

    def _ask(self, path: str) -> Answer:
        self._http.request("GET", path)
        response = self._http.getresponse()
        body = response.read(self._largest + 1)
        if len(body) > self._largest:
            raise http.client.HTTPException(f"its answer is larger than {self._largest} bytes")
        return Answer(response.status, body, self._connections)


def _words(error: Exception) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "no answer in time"
    return str(error) or type(error).__name__
