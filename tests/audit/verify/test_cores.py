"""The same work on all cores: in order, whatever ends it, and leaving no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coalmine.audit.verify.cores import AT_ONCE, WORTH_A_PROCESS, Cores
from coalmine.errors import MachineUnready

MANY = 4 * WORTH_A_PROCESS + 7
TWO = 2  # cores, whatever this machine has


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coalmine.audit.verify.cores._cores", lambda: TWO)


def process_of(_: int) -> int:
    return os.getpid()


def double(number: int) -> int:
    return 2 * number


def die_at(number: int) -> int:
    if number == 3 * AT_ONCE:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_every_result_comes_in_order_and_again_with_the_same_processes() -> None:
    with Cores() as cores:
        assert list(cores.map(double, iter(range(MANY)), MANY)) == [2 * each for each in range(MANY)]
        first = set(cores.map(process_of, range(MANY), MANY))
        assert len(first) == TWO
        assert os.getpid() not in first
        assert set(cores.map(process_of, range(MANY), MANY)) == first


def test_a_little_work_starts_nothing() -> None:
    with Cores() as cores:
        assert set(cores.map(process_of, range(WORTH_A_PROCESS), WORTH_A_PROCESS)) == {os.getpid()}


def test_only_some_batches_are_read_ahead() -> None:
    read = []
    with Cores() as cores:
        results = cores.map(double, (read.append(each) or each for each in range(MANY)), MANY)
        next(results)
        assert len(read) <= (TWO + 1) * AT_ONCE


def test_a_process_that_is_ended_is_one_clear_error_and_the_others_end_too() -> None:
    with pytest.raises(MachineUnready, match="run again"), Cores() as cores:
        list(cores.map(die_at, range(MANY), MANY))


def test_sigkill_of_who_asked_ends_the_processes(tmp_path: Path) -> None:
    script = tmp_path / "asks.py"
    script.write_text(
        "import time\n"
        "from coalmine.audit.verify.cores import Cores\n"
        "from tests.audit.verify.test_cores import MANY, process_of\n"
        "if __name__ == '__main__':\n"
        "    from unittest.mock import patch\n"
        "    with patch('coalmine.audit.verify.cores._cores', lambda: 2), Cores() as cores:\n"
        "        print(*set(cores.map(process_of, range(MANY), MANY)), flush=True)\n"
        "        time.sleep(600)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    asking = subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    with asking.stdout as told:
        helpers = [int(word) for word in told.readline().split()]
    assert len(helpers) == TWO
    asking.kill()
    asking.wait()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in helpers) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in helpers if Path(f"/proc/{pid}").exists()] == []
