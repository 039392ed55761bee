"""The laptop's kubelet: one small process per repository that owns all others.

    python -m coalmine.local.supervisor [--detach] REPOSITORY

It starts what `.coalmine/local/processes` asks for, stops what nobody asks for any more, starts
again what crashed, and reports in `.coalmine/local/status`. SIGTERM ends it and all it owns, the
proxy last, so that users meet an answer as long as there is one. Processes that a killed
supervisor left behind are taken over, or ended when nobody wants them. It imports little: it
lives as long as the stack does. What should run is decided elsewhere.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from coalmine.errors import IntegrityError, MachineUnready
from coalmine.local.child import Child
from coalmine.reconcilers.process_files import (
    Desired,
    ProcessFolder,
    ProcessHealth,
    ProcessSpec,
    ProcessStatus,
)

POLL_S = 0.1
PROXY = "envoy"  # the process that takes the users' requests
FOLDER = Path(".coalmine/local")  # from the top of the repository


class Supervisor:
    def __init__(self, files: ProcessFolder) -> None:
        self._files = files
        self._stamp: tuple[tuple[str, int, int], ...] | None = None
        self._desired: dict[str, Desired] = {}
        self._children: dict[str, Child] = {}
        self._reported: dict[str, ProcessStatus] = {}
        self._is_asked_to_end = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Called in the main thread: Envoy ends with the thread that started it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_end)
        self._adopt()
        self._tick()
        # Not earlier: until now the reports could be those of an earlier supervisor.
        self._files.announce_supervisor()
        while not self._is_asked_to_end:
            time.sleep(POLL_S)
            self._tick()
        self._end_all()

    def _ask_to_end(self, _number: int, _frame: FrameType | None) -> None:
        self._is_asked_to_end = True

    def _adopt(self) -> None:
        """Take over what an earlier supervisor left behind."""
        self._read_desired()
        for status in self._files.statuses():
            if not status.is_alive:
                self._files.forget(status.name)
                continue
            desired = self._desired.get(status.name)
            if desired is None or desired.request != status.request:
                # Nobody knows its spec any more: the ordinary way of a changed wish ends it.
                desired = Desired(status.request, ProcessSpec(status.name, ()))
            self._children[status.name] = Child(desired, self._files.log(status.name), adopted=status)

    def _tick(self) -> None:
        self._read_desired()
        now_s = time.monotonic()
        for name in self._desired.keys() | self._children.keys():
            self._align(name, now_s)
        for child in self._children.values():
            child.tick(now_s)
        self._report()

    def _read_desired(self) -> None:
        stamp = self._files.desired_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._desired = {}
        for name in self._files.desired_names():
            try:
                desired = self._files.desired(name)
            except IntegrityError as error:
                _say(str(error))
                continue
            if desired is not None:
                self._desired[name] = desired

    def _align(self, name: str, now_s: float) -> None:
        """Bring the child `name` nearer to what is desired."""
        desired, child = self._desired.get(name), self._children.get(name)
        if child is None:
            assert desired is not None
            self._children[name] = Child(desired, self._files.log(name))
        elif child.is_gone or (child.has_failed and child.desired != desired):
            del self._children[name]
            listener = child.give_up_port(None if desired is None else desired.spec)
            if desired is not None:
                self._children[name] = Child(desired, self._files.log(name), listener=listener)
        elif desired is None or desired.spec != child.desired.spec:
            child.stop(now_s)
        elif not child.is_stopping:
            child.desired = desired

    def _report(self) -> None:
        statuses = {name: self._status_of(name, child) for name, child in self._children.items()}
        for name, status in statuses.items():
            if status == self._reported.get(name):
                continue
            try:
                self._files.report(status)
            except MachineUnready as error:
                _say(str(error))  # a full disk must not take the servers down
                continue
            self._reported[name] = status
            _say(f"{name}: {status.health}{f': {status.detail}' if status.detail else ''}")
        for name in self._reported.keys() - statuses.keys():
            del self._reported[name]
            self._files.forget(name)

    def _status_of(self, name: str, child: Child) -> ProcessStatus:
        """What runs; where it gives way to something new, the new is starting."""
        status, desired = child.status, self._desired.get(name)
        if desired is None or not child.is_stopping:
            return status
        return ProcessStatus(
            name,
            desired.request,
            ProcessHealth.STARTING,
            status.pid,
            status.started_at_s,
            detail="waits for the process before it to end",
        )

    def _end_all(self) -> None:
        """The servers first, all at once, then the proxy."""
        self._desired = {}
        for is_proxy in (False, True):
            ending = {name: child for name, child in self._children.items() if (name == PROXY) is is_proxy}
            while ending:
                now_s = time.monotonic()
                for child in ending.values():
                    child.stop(now_s)
                    child.tick(now_s)
                for name in [name for name, child in ending.items() if child.is_gone]:
                    del ending[name], self._children[name]
                self._report()
                time.sleep(POLL_S / 5)


def supervise(repository: Path) -> None:
    """Supervise `repository`, unless somebody does already."""
    files = ProcessFolder(repository / FOLDER)
    files.folder.mkdir(parents=True, exist_ok=True)
    # Kept open for the life of this process: the kernel lets go of the lock when it ends, however it ends.
    with (files.folder / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another supervisor is at work here")
            return
        Supervisor(files).run()


def _say(sentence: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {sentence}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path)
    parser.add_argument("--detach", action="store_true", help="return at once, and live on in the background")
    arguments = parser.parse_args()
    repository = arguments.repository.resolve()
    if arguments.detach:
        if os.fork() > 0:
            sys.exit(0)
        os.setsid()
    os.chdir(repository)
    supervise(repository)


if __name__ == "__main__":
    main()
