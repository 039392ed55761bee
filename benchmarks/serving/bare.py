"""The bare HTTP stack: reads every request's body and answers with the same bytes, without inference.

python -m benchmarks.serving.bare ANSWER PORT [--starlette]

`rsgi` is the server's own stack, in the server's own process form: what any Python code behind it
can reach at most. `--starlette` is the usual one, a Starlette route on the same HTTP server.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coalmine.serving.host import BACKLOG, serve
from coalmine.serving.port import take_port

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


class Bare:
    """What `serve` needs of a server, and no more."""

    is_ready = True

    def __init__(self, answer: Recorded) -> None:
        self._status = answer.status
        self._headers = [(name, value) for name, value in answer.headers]
        self._body = answer.body.encode()

    async def __rsgi__(self, _: Any, http: Any) -> None:
        await http()
        http.response_bytes(self._status, self._headers, self._body)

    async def close(self) -> None:
        pass


def _starlette(answer: Recorded, port: int) -> None:
    body, headers = answer.body.encode(), dict(answer.headers)

    async def respond(request: Request) -> Response:
        await request.body()
        return Response(body, answer.status, headers)

    app = Starlette(routes=[Route("/{path:path}", respond, methods=["GET", "POST"])])
    server = Server(
        app, port=port, interface=Interfaces.ASGINL, websockets=False, backlog=BACKLOG, log_enabled=False
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("answer", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--starlette", action="store_true")
    arguments = parser.parse_args()
    answer = Recorded(**json.loads(arguments.answer.read_text(encoding="utf-8")))
    if arguments.starlette:
        _starlette(answer, arguments.port)
    else:
        bare: Any = Bare(answer)
        serve(lambda: bare, take_port("127.0.0.1", arguments.port), 0.0, "the bare stack serves")


if __name__ == "__main__":
    main()
