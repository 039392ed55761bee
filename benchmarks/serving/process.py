"""A server under test: started, awaited, watched and ended, on the core that is kept for it."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

READY_WITHIN_S = 90.0
_ASK_EVERY_S = 0.005


def cores() -> tuple[set[int], set[int]]:
    """The load generator's core and the server's; the same one where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[-1]}


@contextlib.contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """What starts inside runs on `cpus`: children inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@dataclass
class Running:
    """A server's tree of processes. `ready_s`: from its start to the first 200 on its readiness route."""

    process: psutil.Popen
    port: int
    ready_s: float

    def cpu_s(self) -> float:
        """Processor time of the tree so far, in user and kernel mode."""
        return float(sum(times.user + times.system for times in (each.cpu_times() for each in self._tree())))

    def memory_mib(self) -> float:
        """The tree's proportional set size: pages that processes share count once."""
        return float(sum(each.memory_full_info().pss for each in self._tree()) / 2**20)

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextlib.contextmanager
def running(
    command: Sequence[str], ready_path: str, port: int, env: Mapping[str, str], folder: Path, log: Path
) -> Iterator[Running]:
    """
    Raises:
        RuntimeError: it ended, or was not ready in time; with the end of its log.
    """
    with log.open("wb") as output, pinned(cores()[1]):
        started = time.perf_counter()
        process = psutil.Popen(
            command,
            env={**os.environ, **env},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not _is_ready(port, ready_path):
            waited = time.perf_counter() - started
            if process.poll() is not None or waited > READY_WITHIN_S:
                words = log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise RuntimeError(f"{' '.join(command)} was not ready after {waited:.0f} s: {words}")
            time.sleep(_ASK_EVERY_S)
        yield Running(process, port, time.perf_counter() - started)
    finally:
        _end(process)


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: psutil.Popen) -> None:
    """As a person would: the parent ends its children, and what it leaves behind is killed."""
    tree: list[psutil.Process] = [process]
    with contextlib.suppress(psutil.NoSuchProcess):
        tree += process.children(recursive=True)
        process.terminate()
    psutil.wait_procs([process], timeout=10)
    for each in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(tree, timeout=10)
    process.wait()
