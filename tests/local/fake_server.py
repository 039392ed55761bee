"""A model server as small as can be, run as a program: `fake_server.py PORT NAME [stubborn]`.

It answers with its name; the query of the URL makes it misbehave: `?422`, `?500`, `?slow`,
`?reset`, `?cut` (breaks off in the middle of its answer), `?score` (scores .9 where others score .5);
`?500@NAME`: only the server of that name. A stubborn one ignores SIGTERM. Like a model server it has
/metrics, and tells what it answered to which request under `served`.
"""

import asyncio
import json
import signal
import sys
import time

STARTED_S = time.time()
NAME = sys.argv[2]
served: list[dict[str, object]] = []
labels: list[str] = []
asked: list[str] = []


def answer(path: str, query: str, fields: dict[str, str], peer: int) -> str:
    if path.endswith("/served"):
        after = int(query.removeprefix("after="))
        return json.dumps({"epoch": str(STARTED_S), "next": len(served), "served": served[after:]})
    if path == "/metrics":
        above = sum(each["scores"] == [0.9] for each in served)
        return (
            f"coalmine_started_seconds {STARTED_S}\n"
            f'coalmine_score_bucket{{le="0.5"}} {len(served) - above}\n'
            f'coalmine_score_bucket{{le="+Inf"}} {len(served)}\n'
            f"coalmine_loss_count {len(labels)}\ncoalmine_loss_sum {0.5 * len(labels)}\n"
        )
    request_id = fields.get("x-request-id", "")
    if path.endswith("/infer") and query in ("", "score"):
        served.append({"id": request_id, "scores": [0.9 if query else 0.5]})
    if path.endswith("/feedback"):
        labels.append(request_id)
    cookie = fields.get("cookie", "")
    asked.append(request_id)
    return json.dumps(
        {
            "slot": NAME,
            "connection": peer,
            "path": path,
            "id": request_id,
            "cookie": cookie,
            "asked": len(asked),
        }
    )


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("peername")[1]
    while True:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().splitlines()
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        await reader.readexactly(int(fields.get("content-length", 0)))
        path, _, query = first.split()[1].partition("?")
        query, _, only = query.partition("@")
        query = query if only in ("", NAME) else ""
        if query == "reset":
            writer.transport.abort()
            return
        if query == "slow":
            await asyncio.sleep(5)
        body = answer(path, query, fields, peer).encode()
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
