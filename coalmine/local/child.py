"""One process under the supervisor, from its start to its end.

A process that ends before it was ever ready has failed and stays so, with its own last words;
one that was ready and ends is started again, after a pause that doubles. The clock is the
caller's: `tick` is called about ten times a second and never waits, but for a readiness check.
Who connects to its port while it starts again waits for it, unless the pause before is long.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from coalmine.errors import MachineUnready
from coalmine.local.listener import Listener
from coalmine.reconcilers.process_files import (
    Desired,
    ProcessHealth,
    ProcessSpec,
    ProcessStatus,
    is_same_process,
    started_at_s,
)
from coalmine.serving.port import HANDED_OVER

READY_CHECK_TIMEOUT_S = 0.5
SETTLED_AFTER_S = 1.0  # without a ready_url: still there after this long means ready
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
REFUSE_IN_PAUSES_OVER_S = 1.0  # users rather learn that nobody answers
STEADY_AFTER_S = 60.0  # a process that stayed up this long starts again without a long pause
LAST_WORDS_LINES = 8
LARGEST_LOG_BYTES = 5_000_000


@dataclass
class OsProcess:
    """A process in a group of its own. `handle` is None for one that another supervisor started."""

    pid: int
    started_at_s: float | None
    handle: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, spec: ProcessSpec, log: Path, listener: Listener | None = None) -> Self:
        """
        Raises:
            OSError: the program is not there or may not be run.
        """
        handed_over = {} if listener is None else {HANDED_OVER: str(listener.fileno())}
        with log.open("ab") as out:
            handle = subprocess.Popen(
                spec.argv,
                env={**os.environ, **spec.env, **handed_over},
                pass_fds=() if listener is None else (listener.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(handle.pid, started_at_s(handle.pid), handle)

    def ending(self) -> str | None:
        """How it ended, in words; None while it runs."""
        if self.handle is None:
            return None if is_same_process(self.pid, self.started_at_s) else "it ended"
        code = self.handle.poll()
        if code is None:
            return None
        return f"it exited with status {code}" if code >= 0 else f"it was ended by {_signal_name(-code)}"

    def terminate(self) -> None:
        """Ask it to end. Only the process itself: a server tells its own workers."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill_group(self) -> None:
        """End what is left of it, workers included: a worker that outlives its server holds the port."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: not permitted on the ended
            os.killpg(self.pid, signal.SIGKILL)


class Child:
    """Keeps one process as `desired` says.

    adopted: what an earlier supervisor left running. listener: of the child that this one replaces.
    """

    def __init__(
        self,
        desired: Desired,
        log: Path,
        adopted: ProcessStatus | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.desired = desired
        self._listener = listener
        self._log = log
        self._log_start = 0  # where the present process's own words begin
        self._process: OsProcess | None = None
        self._is_ready = self._was_ready = False
        self._running_since_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._start_at_s: float | None = 0.0  # when to start next; None: not by itself
        self._kill_at_s: float | None = None  # set while stopping
        self._restarts = 0
        self._detail = ""
        if adopted is not None and adopted.pid is not None:
            self._process = OsProcess(adopted.pid, adopted.started_at_s)
            self._was_ready = adopted.health is ProcessHealth.READY
            self._restarts = adopted.restarts
            self._start_at_s = None

    @property
    def is_stopping(self) -> bool:
        return self._kill_at_s is not None

    @property
    def is_gone(self) -> bool:
        """Asked to stop, and nothing is left of it."""
        return self.is_stopping and self._process is None

    @property
    def has_failed(self) -> bool:
        return self._process is None and self._start_at_s is None and not self.is_stopping

    @property
    def status(self) -> ProcessStatus:
        process = self._process
        return ProcessStatus(
            name=self.desired.spec.name,
            request=self.desired.request,
            health=self._health,
            pid=None if process is None else process.pid,
            started_at_s=None if process is None else process.started_at_s,
            restarts=self._restarts,
            detail="" if self._is_ready else self._detail,
        )

    @property
    def _health(self) -> ProcessHealth:
        if self.is_stopping:
            return ProcessHealth.STOPPING
        if self.has_failed:
            return ProcessHealth.FAILED
        return ProcessHealth.READY if self._is_ready else ProcessHealth.STARTING

    def give_up_port(self, successor: ProcessSpec | None = None) -> Listener | None:
        """The listener, if the process that follows has the same port; else it is closed."""
        listener, self._listener = self._listener, None
        if listener is not None and (successor is None or successor.port != listener.port):
            listener.close()
            return None
        return listener

    def stop(self, now_s: float) -> None:
        """Ask it to end; `tick` sees to it that it does."""
        if self.is_stopping:
            return
        self._kill_at_s = now_s + self.desired.spec.grace_s
        self._start_at_s = None
        if self._process is not None:
            self._process.terminate()

    def tick(self, now_s: float) -> None:
        if self._process is None:
            if self._start_at_s is not None and now_s >= self._start_at_s:
                self._start(now_s)
            return
        ending = self._process.ending()
        if ending is not None:
            self._process.kill_group()
            self._process = None
            self._ended(ending, now_s)
        elif self._kill_at_s is not None:
            if now_s >= self._kill_at_s:
                self._process.kill_group()
        elif not self._is_ready:
            self._is_ready = self._answers(now_s)
            self._was_ready = self._was_ready or self._is_ready

    def _start(self, now_s: float) -> None:
        spec = self.desired.spec
        self._start_at_s = None
        self._running_since_s = now_s
        try:
            self._log_start = _prepare_log(self._log)
            if self._listener is None and spec.port is not None:
                self._listener = Listener(spec.port)
            self._process = OsProcess.start(spec, self._log, self._listener)
        except MachineUnready as error:
            self._ended(f"it cannot be started: {error}", now_s)
        except OSError as error:
            self._ended(f"it cannot be started: {spec.argv[0]}: {error.strerror or error}", now_s)

    def _ended(self, ending: str, now_s: float) -> None:
        self._is_ready = False
        if self.is_stopping:
            return
        words = _last_words(self._log, self._log_start)
        self._detail = f"{ending}. Its last words: {words}" if words else f"{ending} without a word"
        if not self._was_ready:
            self.give_up_port()
            return
        if now_s - self._running_since_s > STEADY_AFTER_S:
            self._pause_s = FIRST_PAUSE_S
        self._start_at_s = now_s + self._pause_s
        if self._listener is not None and self._pause_s > REFUSE_IN_PAUSES_OVER_S:
            self._listener.refuse()
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._restarts += 1

    def _answers(self, now_s: float) -> bool:
        url = self.desired.spec.ready_url
        if url is None:
            return now_s - self._running_since_s >= SETTLED_AFTER_S
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=READY_CHECK_TIMEOUT_S)
        try:
            connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
            return 200 <= connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _prepare_log(log: Path) -> int:
    """Set a long log aside; returns where the next words will stand."""
    log.parent.mkdir(parents=True, exist_ok=True)
    size = log.stat().st_size if log.exists() else 0
    if size > LARGEST_LOG_BYTES:
        os.replace(log, log.with_suffix(".log.1"))
        return 0
    return size


def _last_words(log: Path, start: int) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - 8192))
            said = file.read().decode(errors="replace")
    except OSError:  # somebody deleted it
        return ""
    return "\n".join([line for line in said.splitlines() if line.strip()][-LAST_WORDS_LINES:])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
