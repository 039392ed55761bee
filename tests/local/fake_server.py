"""A model server as small as can be, run as a program: `fake_server.py PORT NAME [stubborn]`.

It answers with its name; the query of the URL makes it misbehave: `?422`, `?500`, `?slow`,
`?reset`, `?cut` (breaks off in the middle of its answer). A stubborn one ignores SIGTERM.
"""

import asyncio
import signal
import sys


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("peername")[1]
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = [line for line in head.splitlines() if line.startswith("content-length:")]
        if length:
            await reader.readexactly(int(length[0].split(":")[1]))
        path, _, query = head.split()[1].partition("?")
        if query == "reset":
            writer.transport.abort()
            return
        if query == "slow":
            await asyncio.sleep(5)
        body = f'{{"slot": "{sys.argv[2]}", "connection": {peer}, "path": "{path}"}}'.encode()
        status = query if query.isdigit() else "200"
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        if query == "cut":
            writer.write(body[:5])
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.transport.abort()
            return
        writer.write(body)
        await writer.drain()


async def serve_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await serve(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, ended.set if "stubborn" not in sys.argv else lambda: None
    )
    await asyncio.start_server(serve_quietly, "127.0.0.1", int(sys.argv[1]))
    await ended.wait()


asyncio.run(main())
