"""Bare HTTP stacks: each reads every request's body and answers with the same bytes, without inference.

python -m benchmarks.serving.bare STACK ANSWER PORT

`uvicorn` is the fastest of the servers that others keep, with nothing but an ASGI function behind it;
`granian` the other one, by its own interface; `own` is the model server's HTTP layer.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from coalmine.serving.host import BACKLOG, serve
from coalmine.serving.http import Answer, Request
from coalmine.serving.port import take_port
from coalmine.serving.refusal import Refusal

_WRITTEN_BY_THE_STACK = ("content-length", "date", "server", "connection")


@dataclass(frozen=True)
class Recorded:
    """A real answer, without what the HTTP stack itself adds to it."""

    status: int
    headers: list[tuple[str, str]]
    body: str

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def record(port: int, path: str, body: str) -> Recorded:
    """Ask a server once, and keep what it says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        headers = [(name.lower(), value) for name, value in answer.getheaders()]
        return Recorded(
            answer.status,
            [each for each in headers if each[0] not in _WRITTEN_BY_THE_STACK],
            answer.read().decode(),
        )
    finally:
        connection.close()


def _uvicorn(answer: Recorded, port: int) -> None:
    body = answer.body.encode()
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    headers.append((b"content-length", str(len(body)).encode()))
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    end = {"type": "http.response.body", "body": body}

    async def app(
        _: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(start)
        await send(end)

    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        access_log=False,
        log_level="error",
    )


def _granian(answer: Recorded, port: int) -> None:
    body, headers = answer.body.encode(), [(name, value) for name, value in answer.headers]

    class App:
        async def __rsgi__(self, _: Any, http: Any) -> None:
            await http()
            http.response_bytes(answer.status, headers, body)

    server = Server(
        App(), port=port, interface=Interfaces.RSGI, websockets=False, backlog=BACKLOG, log_enabled=False
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())


class Bare:
    """What the HTTP layer needs of an application, and no more."""

    is_ready = True

    def __init__(self, answer: Recorded) -> None:
        self.headers = tuple((name, value) for name, value in answer.headers if name.startswith("x-coalmine"))
        self._answer = Answer(answer.body.encode(), answer.status)

    def handle(self, request: Request) -> None:
        request.respond(request, self._answer)

    def refuse(self, request: Request, refusal: Refusal) -> None:
        request.respond(request, Answer(b"", refusal.status))

    def close(self) -> None:
        pass


def _own(answer: Recorded, port: int) -> None:
    serve(
        lambda: Bare(answer),
        take_port("127.0.0.1", port),
        "the HTTP layer serves",
        timeout_s=10.0,
        drain_s=0.0,
    )


_STACKS = {"uvicorn": _uvicorn, "granian": _granian, "own": _own}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", choices=_STACKS)
    parser.add_argument("answer", type=Path)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    answer = Recorded(**json.loads(arguments.answer.read_text(encoding="utf-8")))
    _STACKS[arguments.stack](answer, arguments.port)


if __name__ == "__main__":
    main()
