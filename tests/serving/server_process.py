"""`python -m coalmine.serving` as a process of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

_IMPATIENT = """
from coalmine.serving import __main__, host

host.HEAD_WITHIN_S = {}
__main__.main()
"""


class Server:
    """stderr: a file, where the server may say more than a pipe that nobody reads would hold.
    head_within_s: less than the server's own limit, which is long for a test."""

    def __init__(
        self,
        release: Path,
        *more: str,
        port: int = 0,
        stderr: IO[str] | int = PIPE,
        head_within_s: float | None = None,
    ) -> None:
        module = ["-m", "coalmine.serving"]
        if head_within_s is not None:
            module = ["-c", _IMPATIENT.format(head_within_s)]
        self.process = subprocess.Popen(
            [sys.executable, *module, "--release", release, "--slot", "blue", "--port", str(port), *more],
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
def started(release: Path, *more: str, **about: Any) -> Iterator[Server]:
    server = Server(release, *more, **about)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


@contextmanager
def running(release: Path, *more: str, **about: Any) -> Iterator[Server]:
    with started(release, *more, **about) as server:
        server.await_announcement()
        yield server
