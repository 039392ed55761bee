"""A Dask cluster of real processes on loopback, as `dask scheduler` and `dask worker` start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

READY_WITHIN_S = 60.0


@dataclass
class DaskCluster:
    folder: Path
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        file = self.folder / "scheduler.json"
        _wait(file.exists, "the scheduler")
        return str(json.loads(file.read_text())["address"])

    def add_worker(
        self, *, threads: int = 1, nanny: bool = False, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Connected when this returns. nanny: starts the worker again when it ends."""
        number = len(self.workers)
        ready = self.folder / f"worker-{number}"
        command = ["worker", self.address, "--nthreads", str(threads), "--no-dashboard"]
        options = ["--local-directory", str(self.folder / f"of-{number}"), *([] if nanny else ["--no-nanny"])]
        worker = _dask([*command, *options], ready, environment)
        self.workers.append(worker)
        _wait(lambda: b"Registered to" in ready.read_bytes(), f"worker {number}", worker)
        return worker

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def dask_cluster(folder: Path, workers: int = 2, **environment: str) -> Iterator[DaskCluster]:
    """environment: of the scheduler."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    file = str(folder / "scheduler.json")
    scheduler = _dask([*words, "--scheduler-file", file], folder / "scheduler", environment)
    cluster = DaskCluster(folder, scheduler)
    try:
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        for process in (*cluster.workers, scheduler):
            if process.poll() is None:
                cluster.end(process)


def _dask(words: list[str], log: Path, environment: dict[str, str] | None) -> subprocess.Popen[bytes]:
    given = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            cwd=log.parent,
            env=given,
            stdout=file,
            stderr=file,
        )


def _wait(ready, what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not ready():
        assert process is None or process.poll() is None, f"{what} ended"
        assert time.monotonic() < deadline, f"{what} does not come"
        time.sleep(0.05)
