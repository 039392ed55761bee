"""A folder over HTTP, to read and to write: the DVC remote of tests, which pods reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from tests.loopback import body_of, serving


@contextmanager
def serving_files(folder: Path, host: str) -> Iterator[str]:
    """The URL of `folder`."""
    with serving(type("Handler", (_Handler,), {"folder": str(folder)}), host) as server:
        yield f"http://{host}:{server.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    folder: str

    def translate_path(self, path: str) -> str:
        self.directory = self.folder
        return super().translate_path(path)

    def do_POST(self) -> None:
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body_of(self))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
