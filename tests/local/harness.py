"""A local stack in a folder of its own, with fake model servers, for the tests of what stands on it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coalmine.local.stack import LocalStack
from coalmine.reconcilers.process_files import ProcessFolder, ProcessSpec, ProcessStatus, started_at_s
from coalmine.routers.envoy import EnvoyRouter
from coalmine.settings import Environment
from coalmine.slots import Slot
from tests.ports import reserved_port

FAKE_SERVER = Path(__file__).with_name("fake_server.py")
TIMEOUT_S = 0.5


def new_stack(folder: Path, environment: str = "test") -> LocalStack:
    """A stack that is down, on an address of its own."""
    return LocalStack(folder, environment, Environment(address=f"127.0.0.1:{reserved_port()}"))


@contextmanager
def running_stack(folder: Path) -> Iterator[LocalStack]:
    stack = new_stack(folder)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def fake_server(stack: LocalStack, name: str, *habits: str) -> ProcessSpec:
    port = stack.port(name)
    return ProcessSpec(
        name=name,
        argv=(sys.executable, str(FAKE_SERVER), str(port), name, *filter(None, habits)),
        ready_url=f"http://127.0.0.1:{port}/ready",
        grace_s=2.0,
    )


def dying(name: str, words: str) -> ProcessSpec:
    """A process that says `words` and dies at once."""
    return ProcessSpec(name, (sys.executable, "-c", f"import sys; print({words!r}); sys.exit(3)"))


def declared_router(stack: LocalStack, model: str) -> EnvoyRouter:
    router = EnvoyRouter(model, stack.config_folder, stack.admin_address, TIMEOUT_S)
    router.declare({slot: stack.port(f"{model}-{slot}") for slot in Slot})
    return router


class User:
    """Sends requests to a model, over one connection that is kept."""

    def __init__(
        self, stack: LocalStack, model: str = "m", timeout_s: float = 10.0, address: str | None = None
    ) -> None:
        """address: asked directly, where it is not the proxy that is asked."""
        self._connection = http.client.HTTPConnection(address or stack.address, timeout=timeout_s)
        self._path = f"/v2/models/{model}/infer"

    def ask(self, query: str = "", headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        return self.get(self._path + (f"?{query}" if query else ""), headers)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        self._connection.request("GET", path, headers=headers or {})
        self.response = self._connection.getresponse()
        return self.response.status, json.loads(self.response.read())

    def close(self) -> None:
        self._connection.close()


def status_of(stack: LocalStack, name: str) -> ProcessStatus | None:
    return next((status for status in stack.processes() if status.name == name), None)


def pid_of(stack: LocalStack, name: str) -> int:
    status = status_of(stack, name)
    assert status is not None
    assert status.pid is not None
    return status.pid


def supervisor_pid(stack: LocalStack) -> int:
    pid = ProcessFolder(stack.folder).supervisor_pid()
    assert pid is not None
    return pid


def kill(pid: int) -> None:
    """SIGKILL; the process is gone when this returns."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: started_at_s(pid) is None, "the process is gone")


def eventually(holds: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.02)
