"""A small HTTP server in a thread of its own, which does to each request what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Seen:
    """Bodies in the order of their arrival."""

    port: int = 0
    bodies: list[str] = field(default_factory=list)


def answer(value: float, status: int = 200) -> bytes:
    """As the Open Inference Protocol writes one row."""
    outputs = [{"name": "probability", "datatype": "FP64", "shape": [1], "data": [value]}]
    body = json.dumps({"outputs": outputs}).encode()
    return b"HTTP/1.1 %d Words\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@contextlib.contextmanager
def serving(respond: Callable[[int, str], list[bytes] | None]) -> Iterator[Seen]:
    """respond: from a request's number and body to the pieces of its answer, sent one by one;
    None closes the connection, no piece never answers."""
    seen, is_up = Seen(), threading.Event()
    stop: list[Callable[[], None]] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            body = (await reader.readexactly(length)).decode()
            number = len(seen.bodies)
            seen.bodies.append(body)
            pieces = respond(number, body)
            if pieces is None:
                return
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    async def until_it_closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await converse(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def serve() -> None:
        stopped, conversations = asyncio.Event(), set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            conversations.add(asyncio.current_task())
            await until_it_closes(reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        seen.port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        is_up.set()
        await stopped.wait()
        server.close()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert is_up.wait(10)
    try:
        yield seen
    finally:
        stop[0]()
        thread.join()
