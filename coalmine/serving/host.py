"""One process that serves: from listening on its port to the last answer after SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from typing import Protocol

import uvloop

from coalmine.serving.connection import Application, Connections

BACKLOG = 1024
HEAD_WITHIN_S = 30.0  # a client that sends its request line and headers more slowly is let go
NEWCOMERS_WITHIN_S = 0.5  # from a connection to its first request; on a machine that is busy, too


class Closing(Application, Protocol):
    def close(self) -> None:
        """Everybody is answered."""


def serve(
    make: Callable[[], Closing],
    taken: socket.socket,
    announcement: str,
    *,
    copies: socket.socket | None = None,
    timeout_s: float,
    drain_s: float,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight.

    make: called in the event loop. taken: bound. announcement: printed when it listens.
    copies: bound, too; what comes there is a copy of another request.
    timeout_s: from a request's head to its answer.
    drain_s: from SIGTERM, which turns readiness off, to the end of listening.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(make, taken, announcement, copies, timeout_s, drain_s))


async def _serve(
    make: Callable[[], Closing],
    taken: socket.socket,
    announcement: str,
    copies: socket.socket | None,
    timeout_s: float,
    drain_s: float,
) -> None:
    loop, asked_to_stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    app = make()
    connections = Connections(app, timeout_s, HEAD_WITHIN_S)
    gc.collect()
    gc.freeze()  # what is loaded stays; looking through it again would hold up requests
    servers = [await loop.create_server(connections, sock=taken, backlog=BACKLOG)]
    if copies is not None:
        servers.append(await loop.create_server(connections.of_copies, sock=copies, backlog=BACKLOG))
    print(announcement, flush=True)
    await asked_to_stop.wait()
    # Whoever routes to this server learns that it leaves before it refuses anybody.
    app.is_ready = False
    await asyncio.sleep(drain_s)
    # Where a supervisor holds the socket too, the kernel keeps who comes from now on for the next server.
    for server in servers:
        server.close()
    await connections.leave(NEWCOMERS_WITHIN_S)
    app.close()
