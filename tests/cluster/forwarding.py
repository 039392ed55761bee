"""A port of this machine's loopback, for pods: a Prometheus of a test cluster listens nowhere else."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.loopback import body_of, serving


@contextmanager
def forwarded(url: str, host: str) -> Iterator[str]:
    """The HTTP server at `url`, as those reach it who reach this machine at `host`."""
    handler = type("Handler", (_Handler,), {"to": urlsplit(url).netloc})
    with serving(handler, host) as server:
        yield f"http://{host}:{server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    to: str

    def do_GET(self) -> None:
        self._forward(None)

    def do_POST(self) -> None:
        self._forward(body_of(self))

    def _forward(self, body: bytes | None) -> None:
        asked = http.client.HTTPConnection(self.to, timeout=10)
        kept = {key: self.headers[key] for key in ("Content-Type", "Accept") if key in self.headers}
        asked.request(self.command, self.path, body, kept)
        answer = asked.getresponse()
        content = answer.read()
        asked.close()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
