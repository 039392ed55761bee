from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from coalmine.local.stack import LocalStack
from coalmine.reconcilers.process_files import (
    ProcessFolder,
    ProcessHealth,
    ProcessSpec,
    ProcessStatus,
    started_at_s,
)
from tests.local.harness import (
    dying,
    eventually,
    fake_server,
    kill,
    pid_of,
    running_stack,
    status_of,
    supervisor_pid,
)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with running_stack(tmp_path) as stack:
        yield stack


def python(name: str, code: str, **more: object) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code), **more)  # type: ignore[arg-type]


IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
WITH_A_WORKER = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {worker!r}]); time.sleep(600)"
)


def test_a_killed_server_is_started_again(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "a"))
    for restarts in (1, 2):
        before = pid_of(stack, "a")
        kill(before)
        eventually(lambda: is_ready_as_another(stack, "a", before), "the server is back")  # noqa: B023
        status = status_of(stack, "a")
        assert status is not None
        assert status.restarts == restarts


def test_a_program_that_is_not_there_fails_and_is_named(stack: LocalStack) -> None:
    ProcessFolder(stack.folder).desire(ProcessSpec("a", ("/no/such/program",)))
    eventually(lambda: health(stack, "a") is ProcessHealth.FAILED, "it failed")
    status = status_of(stack, "a")
    assert status is not None
    assert "/no/such/program" in status.detail


def test_the_last_words_are_those_of_this_process_not_of_the_one_before(stack: LocalStack) -> None:
    files = ProcessFolder(stack.folder)
    for words in ("first", "second"):
        files.desire(dying("a", words))
        eventually(lambda: words in detail(stack, "a"), f"it said {words}")  # noqa: B023
    assert "first" not in detail(stack, "a")


def test_a_process_without_a_ready_url_is_ready_when_it_stays_up(stack: LocalStack) -> None:
    stack.run(python("a", "import time; time.sleep(600)"))
    assert health(stack, "a") is ProcessHealth.READY


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(stack: LocalStack) -> None:
    stack.run(python("stubborn", IGNORES_SIGTERM, grace_s=0.3))
    pid = pid_of(stack, "stubborn")
    stack.stop("stubborn")
    assert started_at_s(pid) is None


def test_a_crashed_servers_worker_does_not_stay_behind(stack: LocalStack) -> None:
    stack.run(python("a", WITH_A_WORKER.format(worker="import time; time.sleep(600)")))
    pid = pid_of(stack, "a")
    (worker,) = psutil.Process(pid).children()
    kill(pid)
    eventually(lambda: started_at_s(worker.pid) is None, "it is gone")


def test_only_one_supervisor_runs_per_repository(stack: LocalStack, tmp_path: Path) -> None:
    pid = supervisor_pid(stack)
    second = subprocess.run(
        [sys.executable, "-m", "coalmine.local.supervisor", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "another supervisor" in second.stdout
    assert supervisor_pid(stack) == pid


def test_after_the_supervisor_was_killed_servers_go_on_and_are_taken_over(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "a"))
    server = pid_of(stack, "a")
    kill(supervisor_pid(stack))
    assert not stack.is_up
    assert status_of(stack, "a") is not None
    stack.up()
    assert health(stack, "a") is ProcessHealth.READY
    assert pid_of(stack, "a") == server
    kill(server)
    eventually(lambda: is_ready_as_another(stack, "a", server), "the server is back")


def test_what_nobody_wants_any_more_ends_when_a_supervisor_is_back(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "a"))
    server = pid_of(stack, "a")
    kill(supervisor_pid(stack))
    ProcessFolder(stack.folder).dismiss("a")
    stack.up()
    eventually(lambda: started_at_s(server) is None, "the server ended")


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(stack: LocalStack) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        stack.down()
        files = ProcessFolder(stack.folder)
        files.report(ProcessStatus("a", "r", ProcessHealth.READY, stranger.pid, started_at_s=1.0))
        stack.up()
        eventually(lambda: status_of(stack, "a") is None, "the report is gone")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_end_takes_the_servers_first_and_the_proxy_last(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "a"))
    pids = [pid_of(stack, "a"), pid_of(stack, "envoy"), supervisor_pid(stack)]
    stack.down()
    assert [pid for pid in pids if started_at_s(pid) is not None] == []
    said = stack.log("supervisor").read_text()
    assert said.index("a: stopping") < said.index("envoy: stopping")


def test_the_supervisor_stays_small() -> None:
    code = "import sys, coalmine.local.supervisor; print([m for m in sys.modules if '.' not in m])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = ("pandas", "numpy", "sklearn", "scipy", "prefect", "dvc", "pydantic", "yaml")
    assert [name for name in heavy if f"'{name}'" in loaded] == []


def is_ready_as_another(stack: LocalStack, name: str, before: int) -> bool:
    status = status_of(stack, name)
    return status is not None and status.health is ProcessHealth.READY and status.pid != before


def health(stack: LocalStack, name: str) -> ProcessHealth | None:
    status = status_of(stack, name)
    return None if status is None else status.health


def detail(stack: LocalStack, name: str) -> str:
    status = status_of(stack, name)
    return "" if status is None else status.detail
