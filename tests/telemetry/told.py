"""A server on loopback that tells what a test puts into it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Told:
    """answers: by path without its query; a function is given the query. What is not there is a 404."""

    port: int = 0
    answers: dict[str, str | Callable[[str], str]] = field(default_factory=dict)


@contextmanager
def telling() -> Iterator[Told]:
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            answer = told.answers.get(path)
            body = (answer(query) if callable(answer) else answer or "").encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("content-type", "text/plain; version=0.0.4")  # as Prometheus 3 wants to hear
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
