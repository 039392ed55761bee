"""One at a time: a lock between processes of this machine that ends with its holder.

The kernel gives the lock back when the holder dies, however it dies; the file that carries
it stays, with the holder's name in it for whoever is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from coalmine.errors import AlreadyRunning
from coalmine.registry.faults import machine_fault

_RETRY_S = 0.05


@contextmanager
def exclusive(path: Path, what: str, who: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold `path` for `what` ("the retraining of delay"); `who` is shown to those who come second.

    Raises:
        AlreadyRunning: held by another for longer than `wait_s`; names who, process and since when.
        MachineUnready: the lock file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise machine_fault(error, path) from error
    try:
        _acquire(descriptor, what, time.monotonic() + wait_s)
        holder = {"pid": os.getpid(), "who": who, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except OSError as error:
            raise machine_fault(error, path) from error
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, what: str, until_s: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= until_s:
                raise AlreadyRunning(f"{what} is already running{_holder(descriptor)}.") from error
            time.sleep(_RETRY_S)


def _holder(descriptor: int) -> str:
    """Who holds the lock; nothing when the holder has not written its name yet."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return ""
    return (
        f": process {holder['pid']}, started by {holder['who']}, since {holder['since']}. "
        f"Wait for it, or end it: kill {holder['pid']}"
    )
