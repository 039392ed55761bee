"""One process that serves: from listening on its port to the last answer after SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import Any

from granian.constants import Interfaces
from granian.net import SocketHolder
from granian.server.embed import Server

from coalmine.serving.app import Serving

BACKLOG = 1024


def serve(serving: Serving, taken: socket.socket, drain_s: float, announcement: str) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight."""
    asyncio.run(_serve(serving, taken, drain_s, announcement))


async def _serve(serving: Serving, taken: socket.socket, drain_s: float, announcement: str) -> None:
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    server = _Server(serving.app(), taken)
    running = asyncio.create_task(server.serve())
    print(announcement, flush=True)
    stopping = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    # Whoever routes to this server learns that it leaves before it refuses anybody.
    serving.is_ready = False
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), drain_s)
    server.stop()
    await running


class _Server(Server):  # type: ignore[misc]
    """Granian in this process, on a socket of ours: its own would share a port that is in use
    (SO_REUSEPORT), and could not say which one port 0 became."""

    def __init__(self, app: Any, taken: socket.socket) -> None:
        super().__init__(
            app, interface=Interfaces.ASGINL, websockets=False, backlog=BACKLOG, log_enabled=False
        )
        self._taken = taken

    def _init_shared_socket(self) -> None:
        self._taken.listen(BACKLOG)
        self._taken.setblocking(False)
        self._ssp = None
        self._shd = SocketHolder(self._taken.detach(), False, BACKLOG)
