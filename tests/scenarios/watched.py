"""What `coalmine watch` is tried with: somebody's hands, an inbox for what it tells, what a look found."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from coalmine.drift.findings import Kind
from coalmine.operations.watch import Looked
from tests.scenarios.workplace import MODEL, Workplace

Place = TypeVar("Place")


@dataclass(frozen=True)
class Hand(Generic[Place]):
    """Somebody's hand in the place. undo: how they take it back; None: `--heal` mends it. with_it: what is
    found beside `kind`, or may be."""

    kind: Kind
    do: Callable[[Place], Any]
    undo: Callable[[Place, Any], None] | None = None
    with_it: frozenset[Kind] = frozenset()


class Inbox:
    """A webhook's address; `status` is what it answers."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.status = 200
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if inbox.status == 200:
                    inbox.bodies.append(body)
                self.send_response(inbox.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def told(self) -> list[tuple[list[str], list[str]]]:
        return [
            ([each["kind"] for each in body["appeared"]], [each["kind"] for each in body["ended"]])
            for body in self.bodies
        ]


@contextmanager
def listening() -> Iterator[Inbox]:
    inbox = Inbox()
    thread = threading.Thread(target=inbox.server.serve_forever, daemon=True)
    thread.start()
    yield inbox
    inbox.server.shutdown()
    inbox.server.server_close()


def told_to(work: Workplace, inbox: Inbox) -> None:
    settings = work.top / "coalmine.yaml"
    settings.write_text(
        f"{settings.read_text()}\nwatch:\n  notify:\n    - {{webhook: '{inbox.url}', format: json}}\n"
    )
    work.commit("Tell somebody")


def kinds(looked: Looked) -> list[Kind]:
    return [each.finding.kind for each in looked.findings]


# --- hands on Git and on the DVC remote ----------------------------------------------------


def put_back(_: Workplace, taken: tuple[Path, bytes]) -> None:
    path, content = taken
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def lose_object(work: Workplace, version: str = "1.0.0") -> tuple[Path, bytes]:
    manifest = yaml.safe_load(work.git("show", f"{MODEL}@v{version}:models/{MODEL}/manifest.yaml"))
    md5 = manifest["files"][0]["md5"]
    path = work.top / ".coalmine/remotes/dvc/files/md5" / md5[:2] / md5[2:]
    content = path.read_bytes()
    path.unlink()
    return path, content


def stray_tag(work: Workplace) -> None:
    work.git("tag", f"{MODEL}@v9.9.9", work.git("rev-list", "--max-parents=0", "HEAD"))


def untag(work: Workplace, _: Any) -> None:
    work.git("tag", "--delete", f"{MODEL}@v9.9.9")


def others_push(work: Workplace) -> None:
    head = work.head()
    work.git("commit", "--quiet", "--allow-empty", "--message", "Elsewhere")
    work.git("push", "--quiet")
    work.git("reset", "--quiet", "--hard", head)
