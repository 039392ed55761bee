"""A Prometheus of the test's own, where the machine has one."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import TelemetryUnavailable
from tests.ports import reserved_port

EVERY_S = 0.2


def scrape(job: str, port: int, *, path: str = "/metrics", labels: Mapping[str, str] | None = None) -> Any:
    """What a Prometheus is told to scrape on this machine."""
    return {
        "job_name": job,
        "scrape_interval": f"{EVERY_S * 1000:.0f}ms",
        "scrape_timeout": f"{EVERY_S * 1000:.0f}ms",
        "metrics_path": path,
        # A label of the exposition stands, as an operator's `honorLabels`: the test says who is scraped.
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": dict(labels or {})}],
    }


@contextmanager
def running_prometheus(folder: Path, jobs: Sequence[Any], port: int | None = None) -> Iterator[str]:
    """Its URL. Skips the test where there is none to be run."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no Prometheus on this machine: apt-get install prometheus")
    address = f"127.0.0.1:{port or reserved_port()}"
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}), encoding="utf-8")
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def awaited(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Return once `holds`; a Prometheus that cannot be asked yet does not."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except TelemetryUnavailable:
            pass
        assert time.monotonic() < deadline, f"within {within_s:g} s not: {what}"
        time.sleep(0.05)
