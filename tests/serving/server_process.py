"""`python -m coalmine.serving` as a process of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import IO


class Server:
    """stderr: a file, where the server may say more than a pipe that nobody reads would hold."""

    def __init__(self, release: Path, *more: str, port: int = 0, stderr: IO[str] | int = PIPE) -> None:
        command = [sys.executable, "-m", "coalmine.serving", "--release", str(release), "--slot", "blue"]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), *more],
            stdout=PIPE,
            stderr=stderr,
            text=True,
        )
        self.announcement = ""

    def await_announcement(self) -> None:
        """Return once it serves, or has ended."""
        assert self.process.stdout is not None
        self.announcement = self.process.stdout.readline().strip()

    @property
    def url(self) -> str:
        return self.announcement.split()[-1]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def end(self) -> tuple[int, str]:
        """Its exit status and what it said on stderr, once it has ended by itself."""
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


@contextmanager
def started(release: Path, *more: str, port: int = 0, stderr: IO[str] | int = PIPE) -> Iterator[Server]:
    server = Server(release, *more, port=port, stderr=stderr)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


@contextmanager
def running(release: Path, *more: str, stderr: IO[str] | int = PIPE) -> Iterator[Server]:
    with started(release, *more, stderr=stderr) as server:
        server.await_announcement()
        yield server
