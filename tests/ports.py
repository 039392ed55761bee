"""Ports for the users' address of a stack: never the same one twice, also between two test runs."""

from __future__ import annotations

import fcntl
import random
import tempfile
from pathlib import Path
from typing import IO

from coalmine.local.port_book import is_free

# Below the range from which a stack takes the ports of its own processes, some of which listen later.
RANGE = range(10_000, 20_000)

_reserved: list[IO[str]] = []


def reserved_port() -> int:
    """A free port that belongs to this test process until it ends."""
    folder = Path(tempfile.gettempdir()) / "coalmine-test-ports"
    folder.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(RANGE, 500):
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _reserved.append(lock)  # the lock lives as long as the file is open
        if is_free("127.0.0.1", port):
            return port
    raise AssertionError(f"no free port in {RANGE}")
