"""The folder through which processes are asked for and reported on this machine.

    <folder>/processes/<name>.json   what should run; written by whoever wants it
    <folder>/status/<name>.json      what runs; written by the supervisor alone
    <folder>/logs/<name>.log         what it said
    <folder>/supervisor.json         who supervises

Every file is replaced whole. The supervisor (`coalmine.local.supervisor`) imports this module
and nothing heavier, so it stands on the standard library and psutil. What runs in which slot
is decided in `processes`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from coalmine.durable import replace_json
from coalmine.errors import IntegrityError


@dataclass(frozen=True)
class ProcessSpec:
    """One process that should run.

    argv: an absolute program and its arguments.
    env: what is added to the supervisor's own environment.
    ready_url: answers 2xx once the process is ready; None: ready when it has stayed up a moment.
    grace_s: how long it may take to end by itself after SIGTERM.
    port: of this machine, where it listens; connections that come between two of its lives wait.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None
    grace_s: float = 10.0
    port: int | None = None


@dataclass(frozen=True)
class Desired:
    """`request` names this very wish: a status that carries it speaks about it."""

    request: str
    spec: ProcessSpec


class ProcessHealth(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # ended before it was ever ready; not tried again until asked for anew
    STOPPING = "stopping"


@dataclass(frozen=True)
class ProcessStatus:
    """started_at_s: the process's start as the kernel tells it; with `pid` it names one process for
    ever. detail: the last lines that the process said, when it does not do well."""

    name: str
    request: str
    health: ProcessHealth
    pid: int | None = None
    started_at_s: float | None = None
    restarts: int = 0
    detail: str = ""

    @property
    def is_alive(self) -> bool:
        return self.pid is not None and is_same_process(self.pid, self.started_at_s)


class ProcessFolder:
    """Reads and writes the files above."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._desired = folder / "processes"
        self._status = folder / "status"

    # --- what should run ---------------------------------------------------------------

    def desire(self, spec: ProcessSpec) -> Desired:
        """Ask for `spec`. What runs by the same spec is left alone; what failed by it is tried again.

        Raises:
            MachineUnready: the file cannot be written.
        """
        present, status = self.desired(spec.name), self.status(spec.name)
        failed = status is not None and status.health is ProcessHealth.FAILED
        if present is not None and present.spec == spec and not failed:
            return present
        desired = Desired(secrets.token_hex(8), spec)
        replace_json(self._desired / f"{spec.name}.json", asdict(desired))
        return desired

    def dismiss(self, name: str) -> None:
        """`name` should not run any more."""
        (self._desired / f"{name}.json").unlink(missing_ok=True)

    def desired(self, name: str) -> Desired | None:
        """
        Raises:
            IntegrityError: the file was edited by hand and cannot be read.
        """
        path = self._desired / f"{name}.json"
        content = _read_json(path)
        if content is None:
            return None
        try:
            spec = dict(content["spec"])
            return Desired(content["request"], ProcessSpec(**{**spec, "argv": tuple(spec["argv"])}))
        except (KeyError, TypeError) as error:
            raise _unreadable(path) from error

    def desired_names(self) -> list[str]:
        return _names(self._desired)

    def desired_stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever a wish does; cheap enough to ask for ten times a second."""
        try:
            with os.scandir(self._desired) as entries:
                found = [(e.name, e.stat()) for e in entries if e.name.endswith(".json")]
        except FileNotFoundError:  # the folder, or a file between the listing and its stat
            return ()
        return tuple(sorted((name, stat.st_ino, stat.st_mtime_ns) for name, stat in found))

    # --- what runs ---------------------------------------------------------------------

    def report(self, status: ProcessStatus) -> None:
        replace_json(self._status / f"{status.name}.json", asdict(status))

    def forget(self, name: str) -> None:
        (self._status / f"{name}.json").unlink(missing_ok=True)

    def status(self, name: str) -> ProcessStatus | None:
        path = self._status / f"{name}.json"
        content = _read_json(path)
        if content is None:
            return None
        try:
            return ProcessStatus(**{**content, "health": ProcessHealth(content["health"])})
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(path) from error

    def statuses(self) -> list[ProcessStatus]:
        return [status for name in _names(self._status) if (status := self.status(name)) is not None]

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    # --- who supervises ----------------------------------------------------------------

    def announce_supervisor(self) -> None:
        """This process supervises, for as long as it lives."""
        pid = os.getpid()
        replace_json(self._supervisor, {"pid": pid, "started_at_s": started_at_s(pid)})

    def supervisor_pid(self) -> int | None:
        """The supervisor that lives, if there is one."""
        record = _read_json(self._supervisor)
        if record is None or not is_same_process(record["pid"], record["started_at_s"]):
            return None
        return int(record["pid"])

    def clear(self) -> None:
        """Forget every wish and every report."""
        for folder in (self._desired, self._status):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _supervisor(self) -> Path:
        return self.folder / "supervisor.json"


def started_at_s(pid: int) -> float | None:
    """When process `pid` started; None when it has ended, reaped or not."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def is_same_process(pid: int, started: float | None) -> bool:
    """Whether `pid` still is the process that started at `started`, not a later one of that number."""
    now = started_at_s(pid)
    # The kernel counts from boot, so a corrected clock shifts the same start by a little.
    return now is not None and started is not None and abs(now - started) < 2.0


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _unreadable(path) from error
    if not isinstance(content, dict):
        raise _unreadable(path)
    return content


def _unreadable(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is written by coalmine and cannot be read: it was edited by hand. "
        "Delete it and run `coalmine up` again."
    )


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json") if not path.name.startswith("."))
