"""The local environment: one supervisor, one Envoy, and whatever else is asked to run.

`up` and `down` may be called by anybody at any time, also at once; what they start outlives the
caller. The state is in `.coalmine/local`, and everything that was asked for is started again by
the next `up`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coalmine.durable import replace_json
from coalmine.errors import MachineUnready, ServerUnavailable
from coalmine.local.child import OsProcess
from coalmine.local.port_book import PortBook, is_free
from coalmine.local.proxy import proxy_process
from coalmine.local.supervisor import FOLDER, PROXY
from coalmine.reconcilers.process_files import (
    Desired,
    ProcessFolder,
    ProcessHealth,
    ProcessSpec,
    ProcessStatus,
)
from coalmine.routers.xds import XdsFiles
from coalmine.settings import Environment

SUPERVISOR_STARTS_WITHIN_S = 20.0
PROXY_READY_WITHIN_S = 30.0
ENDS_WITHIN_S = 60.0
LEFT_BEHIND_GRACE_S = 10.0


class LocalStack:
    """What runs on this machine for `repository`, for one environment at a time."""

    def __init__(self, repository: Path, environment: str, settings: Environment) -> None:
        self._repository = repository.resolve()
        self._environment = environment
        self._settings = settings
        self.folder = self._repository / FOLDER
        self._files = ProcessFolder(self.folder)
        self._ports = PortBook(self.folder / "ports.json")
        self.config_folder = self.folder / "envoy"  # what EnvoyRouter writes to

    @property
    def address(self) -> str:
        """Where the users' requests come in."""
        return self._settings.address

    @property
    def admin_address(self) -> str:
        """Envoy's admin interface, for the router and the telemetry."""
        return f"127.0.0.1:{self.port(PROXY)}"

    def port(self, name: str) -> int:
        """The loopback port of process `name`: the same one every time, also after a restart.

        Raises:
            MachineUnready: no free port.
        """
        status = self._files.status(name)
        # Between two lives of a process its port is held by the supervisor.
        is_held = status is not None and self.is_up and status.health is not ProcessHealth.FAILED
        return self._ports.port(name, is_running=is_held or (status is not None and status.is_alive))

    @property
    def is_up(self) -> bool:
        return self._files.supervisor_pid() is not None

    @property
    def owner(self) -> str:
        """The environment whose processes these are."""
        file = self.folder / "environment.json"
        return file.read_text().strip().strip('"') if file.exists() else self._environment

    def up(self) -> None:
        """Start what is not running, and return when users can be served. Idempotent.

        Where it fails, nothing that was down before is left running.

        Raises:
            MachineUnready: no Envoy for this platform, the address is in use, or it dies at start.
        """
        with self._locked():
            self._take_over_from_other_environment()
            proxy = proxy_process(
                self._environment, self.address, self.port(PROXY), XdsFiles(self.config_folder)
            )
            self.require_free_address()
            desired = self._files.desire(proxy)
            was_up = self.is_up
            try:
                self._start_supervisor()
                self._await_proxy(desired)
            except BaseException:  # Ctrl-C too
                if not was_up:
                    self._end_everything()
                raise

    def down(self) -> None:
        """End everything. What was asked for is started again by the next `up`. Idempotent.

        Raises:
            MachineUnready: something does not end.
        """
        with self._locked():
            self._end_everything()

    def processes(self) -> list[ProcessStatus]:
        """What the supervisor reports; without one, only what was left alive."""
        statuses = self._files.statuses()
        return statuses if self.is_up else [status for status in statuses if status.is_alive]

    def desired(self, name: str) -> Desired | None:
        """What should run as `name`.

        Raises:
            IntegrityError: the file was edited by hand and cannot be read.
        """
        return self._files.desired(name)

    def run(self, spec: ProcessSpec, ready_within_s: float = 60.0) -> ProcessStatus:
        """Run `spec` beside the rest, and return when it is ready. Unchanged and running, it is left alone.

        Raises:
            MachineUnready: the stack is down.
            ServerUnavailable: it died at start, or is not ready in time; with its last words.
        """
        if not self.is_up:
            raise MachineUnready(f"{spec.name} cannot run: the local stack is down. Start it: coalmine up")
        return self._await_ready(self._files.desire(spec), ready_within_s)

    def stop(self, name: str) -> None:
        """`name` does not run any more when this returns.

        Raises:
            ServerUnavailable: it does not end.
        """
        self._files.dismiss(name)
        deadline = time.monotonic() + ENDS_WITHIN_S
        while self.is_up and (status := self._files.status(name)) is not None:
            if time.monotonic() > deadline:
                raise ServerUnavailable(
                    f"{name} (pid {status.pid}) does not end. End it: kill -9 {status.pid}"
                )
            time.sleep(0.02)

    def log(self, name: str) -> Path:
        return self._files.log(name)

    # --- up, step by step --------------------------------------------------------------

    def _take_over_from_other_environment(self) -> None:
        """The processes of two environments have the same names: one environment at a time."""
        if (other := self.owner) != self._environment:
            if self.is_up:
                raise MachineUnready(
                    f"The local stack of this repository serves the environment `{other}`. "
                    "End it before you start another: coalmine down"
                )
            self._end_left_behind()
            self._files.clear()
            shutil.rmtree(self.config_folder, ignore_errors=True)
        replace_json(self.folder / "environment.json", self._environment)

    def require_free_address(self) -> None:
        """
        Raises:
            MachineUnready: another program listens where the users' requests should come in.
        """
        status = self._files.status(PROXY)
        if status is not None and status.is_alive:
            return  # it may well be our own Envoy that listens there
        host, _, port = self.address.rpartition(":")
        if not is_free(host, int(port)):
            raise self._address_in_use()

    def _address_in_use(self) -> MachineUnready:
        _, _, port = self.address.rpartition(":")
        return MachineUnready(
            f"{self.address} is in use by another program of this machine, so Envoy cannot listen there. "
            f"End that program (`lsof -i :{port}` names it), or change "
            f"environments.{self._environment}.address in coalmine.yaml to a free port."
        )

    def _start_supervisor(self) -> None:
        if self.is_up:
            return
        log = self._files.log("supervisor")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            subprocess.run(
                [sys.executable, "-m", "coalmine.local.supervisor", "--detach", str(self._repository)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )
        deadline = time.monotonic() + SUPERVISOR_STARTS_WITHIN_S
        while not self.is_up:
            if time.monotonic() > deadline:
                raise MachineUnready(
                    f"The supervisor of the local stack did not start within "
                    f"{SUPERVISOR_STARTS_WITHIN_S:g} s. {log} ends with:\n"
                    f"{log.read_text(errors='replace')[-1000:]}"
                )
            time.sleep(0.02)

    def _await_proxy(self, desired: Desired) -> None:
        try:
            self._await_ready(desired, PROXY_READY_WITHIN_S)
        except ServerUnavailable as error:
            if "in use" in str(error):
                raise self._address_in_use() from error
            raise MachineUnready(
                f"{error}\nEnvoy's configuration is {self.folder / 'envoy.json'}."
            ) from error

    def _await_ready(self, desired: Desired, within_s: float) -> ProcessStatus:
        name = desired.spec.name
        deadline = time.monotonic() + within_s
        while True:
            status = self._files.status(name)
            if status is not None and status.request == desired.request:
                if status.health is ProcessHealth.READY and status.is_alive:
                    return status
                if status.health is ProcessHealth.FAILED:
                    raise ServerUnavailable(
                        f"{name} did not start: {status.detail}\nIts log is {self.log(name)}."
                    )
            if not self.is_up:
                raise ServerUnavailable(f"{name} did not start: the supervisor has ended. Run: coalmine up")
            if time.monotonic() > deadline:
                said = f" {status.detail}" if status is not None else ""
                raise ServerUnavailable(
                    f"{name} was not ready within {within_s:g} s.{said}\nIts log is {self.log(name)}."
                )
            time.sleep(0.02)

    # --- down, step by step ------------------------------------------------------------

    def _end_everything(self) -> None:
        pid = self._files.supervisor_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            self._await_end(pid)
        self._end_left_behind()

    def _await_end(self, pid: int) -> None:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while self._files.supervisor_pid() is not None:
            if time.monotonic() > deadline:
                running = ", ".join(f"{status.name} (pid {status.pid})" for status in self.processes())
                raise MachineUnready(
                    f"The supervisor (pid {pid}) did not end within {ENDS_WITHIN_S:g} s. Still there: "
                    f"{running or 'only itself'}. End them by pid: kill -9 PID"
                )
            time.sleep(0.02)

    def _end_left_behind(self) -> None:
        """What a supervisor that was killed could not end."""
        left = [OsProcess(s.pid, s.started_at_s) for s in self._files.statuses() if s.pid and s.is_alive]
        for process in left:
            process.terminate()
        deadline = time.monotonic() + LEFT_BEHIND_GRACE_S
        while any(process.ending() is None for process in left) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in left:
            process.kill_group()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "stack.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
