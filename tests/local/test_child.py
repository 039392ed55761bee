from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.local.child import FIRST_PAUSE_S, LONGEST_PAUSE_S, SETTLED_AFTER_S, STEADY_AFTER_S, Child
from coalmine.reconcilers.process_files import (
    Desired,
    ProcessHealth,
    ProcessSpec,
    ProcessStatus,
    started_at_s,
)
from tests.local.harness import eventually, kill

SLEEPS = Desired("r", ProcessSpec("a", (sys.executable, "-c", "import time; time.sleep(600)")))


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """A process that is ready, at 0 s on a clock of the test's own."""
    child = Child(SLEEPS, tmp_path / "a.log")
    child.tick(0.0)
    child.tick(SETTLED_AFTER_S)
    assert child.status.health is ProcessHealth.READY
    yield child
    end(child)


def end(child: Child) -> None:
    if child.status.pid is not None:
        kill(child.status.pid)
        child.stop(0.0)
        child.tick(0.0)


def crash(child: Child, now_s: float) -> None:
    assert child.status.pid is not None
    kill(child.status.pid)
    child.tick(now_s)
    assert child.status.pid is None


def test_the_pause_before_a_restart_doubles_up_to_a_limit(child: Child) -> None:
    now_s, pauses = 1.0, []
    for _ in range(9):
        crash(child, now_s)
        pause_s = FIRST_PAUSE_S * 2 ** len(pauses)
        pauses.append(min(pause_s, LONGEST_PAUSE_S))
        child.tick(now_s + 0.99 * pauses[-1])
        assert child.status.pid is None
        now_s += 1.01 * pauses[-1]
        child.tick(now_s)
        assert child.status.pid is not None
    assert child.status.restarts == 9
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_process_that_stayed_up_long_is_started_again_after_the_first_pause(child: Child) -> None:
    now_s = 1.0
    for _ in range(5):
        crash(child, now_s)
        now_s += LONGEST_PAUSE_S
        child.tick(now_s)
    now_s += STEADY_AFTER_S + 1
    crash(child, now_s)
    child.tick(now_s + 1.01 * FIRST_PAUSE_S)
    assert child.status.pid is not None


def test_a_process_taken_over_when_it_was_ready_is_started_again_when_it_ends(tmp_path: Path) -> None:
    orphan = subprocess.Popen(SLEEPS.spec.argv, start_new_session=True)
    status = ProcessStatus("a", "r", ProcessHealth.READY, orphan.pid, started_at_s(orphan.pid))
    child = Child(SLEEPS, tmp_path / "a.log", adopted=status)
    orphan.kill()
    orphan.wait()
    child.tick(0.0)
    assert child.status.health is ProcessHealth.STARTING
    child.tick(2 * FIRST_PAUSE_S)
    assert child.status.restarts == 1
    assert child.status.pid is not None
    end(child)


def test_a_long_log_is_set_aside_when_the_process_starts(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 6_000_000)
    child = Child(Desired("r", ProcessSpec("a", (sys.executable, "-c", "print('new')"))), log)
    child.tick(0.0)
    eventually(lambda: log.read_text() == "new\n", "it spoke")
    assert (tmp_path / "a.log.1").stat().st_size == 6_000_000
    eventually(lambda: _has_ended(child), "it ended")


def _has_ended(child: Child) -> bool:
    child.tick(0.0)
    return child.has_failed
