"""One process that serves: from listening on its port to the last answer after SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.net import SocketHolder
from granian.server.embed import Server

from coalmine.serving.app import Serving

BACKLOG = 1024
_LAST_REQUESTS_WITHIN_S = 0.1  # from who has just connected; on a machine that is busy, too
# linux/socket.h and linux/filter.h, which Python does not name.
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _BPF_RETURN = 26, 27, 0x06
HEAD_WITHIN_MS = 30_000  # a client that sends its request line and headers more slowly is let go


def serve(make: Callable[[], Serving], taken: socket.socket, drain_s: float, announcement: str) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight. `make` is called in the loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(make, taken, drain_s, announcement))


async def _serve(
    make: Callable[[], Serving], taken: socket.socket, drain_s: float, announcement: str
) -> None:
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    serving = make()
    gc.collect()
    gc.freeze()  # what is loaded stays; looking through it again would hold up requests
    door = taken.dup()
    _let_in(door)  # an earlier server on this socket may have been killed while it left
    server = _Server(serving, taken)
    running = asyncio.create_task(server.serve())
    taken.listen(BACKLOG)  # Granian's task has not begun yet; who reads the announcement may connect
    print(announcement, flush=True)
    stopping = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    # Whoever routes to this server learns that it leaves before it refuses anybody.
    serving.is_ready = False
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), drain_s)
    with nobody_new(door):
        await asyncio.sleep(_LAST_REQUESTS_WITHIN_S)
        server.stop()
        await running
    door.close()
    await serving.close()


@contextlib.contextmanager
def nobody_new(door: socket.socket) -> Iterator[None]:
    """New connections are let in later: the kernel drops their first packet, and gets it again in a second.

    Granian stops to accept and closes connections that have not sent anything yet at one and the same
    moment: one that came just before would be lost. Where a supervisor holds the socket too, the next
    server answers who comes later. Elsewhere than on Linux, and where it is forbidden, one may be lost.
    """
    if sys.platform.startswith("linux"):
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0), 8)
        program = struct.pack("HP", 1, ctypes.addressof(nothing))
        with contextlib.suppress(OSError):
            door.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    try:
        yield
    finally:
        _let_in(door)


def _let_in(door: socket.socket) -> None:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):  # nobody is kept out
            door.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


class _Server(Server):  # type: ignore[misc]
    """Granian in this process, on a socket of ours: its own would share a port that is in use
    (SO_REUSEPORT), and could not say which one port 0 became."""

    def __init__(self, app: Any, taken: socket.socket) -> None:
        super().__init__(
            app,
            interface=Interfaces.RSGI,
            # It waits for ever for who has not yet shown which version he speaks, if it knows several.
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            http1_settings=HTTP1Settings(header_read_timeout=HEAD_WITHIN_MS),
            log_enabled=False,
        )
        self._taken = taken

    def _init_shared_socket(self) -> None:
        self._taken.setblocking(False)
        self._ssp = None
        self._shd = SocketHolder(self._taken.detach(), False, BACKLOG)
