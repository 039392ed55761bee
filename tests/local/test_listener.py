"""A server's port, held by the supervisor from one of its lives to the next."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coalmine.local.child import FIRST_PAUSE_S, REFUSE_IN_PAUSES_OVER_S, Child
from coalmine.local.port_book import free_port, is_free
from coalmine.local.stack import LocalStack
from coalmine.reconcilers.process_files import Desired, ProcessSpec
from coalmine.serving.port import HANDED_OVER
from tests.local.harness import dying, eventually, kill, pid_of, running_stack, status_of, supervisor_pid

# Takes one connection after the other and tells each its own pid.
TELLS_ITS_PID = f"""
import os, socket
door = socket.socket(fileno=int(os.environ["{HANDED_OVER}"]))
door.listen()
while True:
    user, _ = door.accept()
    user.sendall(str(os.getpid()).encode())
    user.close()
"""


def server(port: int, name: str = "a") -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", TELLS_ITS_PID), port=port)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Ready, at 1 s on a clock of the test's own."""
    child = Child(Desired("r", server(free_port(set()))), tmp_path / "a.log")
    child.tick(0.0)
    eventually(lambda: listens(port_of(child)), "it listens")
    child.tick(1.0)
    yield child
    end(child)


def test_who_connects_while_a_server_starts_again_is_answered_by_the_next(child: Child) -> None:
    crash(child, 1.0)
    with connected(port_of(child)) as user:
        child.tick(2.0)
        assert user.recv(99) == str(child.status.pid).encode()


def test_who_connects_while_another_server_takes_over_is_answered_by_it(child: Child, tmp_path: Path) -> None:
    spec = child.desired.spec
    crash(child, 1.0)
    child.stop(1.0)
    with connected(port_of(child)) as user:
        after = Child(Desired("s", spec), tmp_path / "b.log", listener=child.give_up_port(spec))
        after.tick(1.0)
        assert user.recv(99) == str(after.status.pid).encode()
    end(after)


def test_nobody_waits_for_a_server_that_crashes_again_and_again(child: Child) -> None:
    pause_s, now_s = FIRST_PAUSE_S, 1.0
    while pause_s <= REFUSE_IN_PAUSES_OVER_S:
        crash(child, now_s)
        connected(port_of(child)).close()
        now_s, pause_s = now_s + pause_s, 2 * pause_s
        child.tick(now_s)
        eventually(lambda: listens(port_of(child)), "it listens")
    crash(child, now_s)
    with pytest.raises(ConnectionRefusedError):
        connected(port_of(child))
    child.tick(now_s + pause_s)
    eventually(lambda: listens(port_of(child)), "it is back")


def test_nobody_waits_for_a_server_that_never_was_ready(tmp_path: Path) -> None:
    spec = replace(dying("a", "no licence"), port=free_port(set()))
    child = Child(Desired("r", spec), tmp_path / "a.log")
    child.tick(0.0)
    with pytest.raises(ConnectionRefusedError):
        connected(port_of(child))
    eventually(lambda: child.tick(0.0) or child.has_failed, "it failed")
    assert is_free("127.0.0.1", port_of(child))


def test_a_port_that_somebody_else_has_is_the_reason_of_the_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        child = Child(Desired("r", server(stranger.getsockname()[1])), tmp_path / "a.log")
        child.tick(0.0)
        assert child.has_failed
        assert f"port {stranger.getsockname()[1]} of 127.0.0.1 is in use" in child.status.detail


def test_another_port_is_another_listener(child: Child) -> None:
    crash(child, 1.0)
    assert child.give_up_port(replace(child.desired.spec, port=free_port(set()))) is None
    assert is_free("127.0.0.1", port_of(child))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with running_stack(tmp_path) as stack:
        yield stack


def test_a_port_stays_with_its_server_while_that_one_is_started_again(stack: LocalStack) -> None:
    port = stack.port("a")
    stack.run(server(port))
    for _ in range(3):
        before = pid_of(stack, "a")
        kill(before)
        while (status := status_of(stack, "a")) is None or status.pid in (None, before):
            assert stack.port("a") == port


def test_a_server_that_nobody_wants_leaves_its_port_free(stack: LocalStack) -> None:
    port = stack.port("a")
    stack.run(server(port))
    stack.stop("a")
    assert is_free("127.0.0.1", port)


def test_a_server_taken_over_from_a_killed_supervisor_gets_its_port_again(stack: LocalStack) -> None:
    port = stack.port("a")
    stack.run(server(port))
    before = pid_of(stack, "a")
    kill(supervisor_pid(stack))
    stack.up()
    kill(before)
    # Until it listens once more connections are refused: the socket went with the old supervisor.
    eventually(lambda: (status := status_of(stack, "a")) and status.pid not in (None, before), "it is back")
    eventually(lambda: listens(port), "it listens")
    before = pid_of(stack, "a")
    kill(before)
    with connected(port) as user:
        assert user.recv(99) not in (b"", str(before).encode())


def port_of(child: Child) -> int:
    assert child.desired.spec.port is not None
    return child.desired.spec.port


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def listens(port: int) -> bool:
    try:
        with connected(port) as user:
            return bool(user.recv(99))
    except ConnectionError:
        return False


def crash(child: Child, now_s: float) -> None:
    assert child.status.pid is not None
    kill(child.status.pid)
    child.tick(now_s)


def end(child: Child) -> None:
    child.stop(0.0)
    if child.status.pid is not None:
        kill(child.status.pid)
        child.tick(0.0)
    child.give_up_port()
