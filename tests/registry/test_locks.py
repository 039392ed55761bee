"""One at a time, for as long as the holder lives and no longer."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from coalmine.errors import AlreadyRunning, MachineUnready
from coalmine.registry.locks import exclusive


def _hold_in_a_child(path: Path) -> int:
    """A process that holds `path` until it is killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with exclusive(path, "the retraining of delay", "Ada <ada@example.com>"):
            os.write(write, b"held")
            time.sleep(60)
        os._exit(0)
    os.close(write)
    assert os.read(read, 4) == b"held"
    os.close(read)
    return child


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def test_the_second_is_told_who_holds_it_and_since_when(tmp_path: Path) -> None:
    child = _hold_in_a_child(tmp_path / "locks/delay")
    try:
        with (
            pytest.raises(AlreadyRunning) as refusal,
            exclusive(tmp_path / "locks/delay", "the retraining of delay", "Sam"),
        ):
            pass
    finally:
        _kill(child)

    said = str(refusal.value)
    assert f"process {child}" in said
    assert "Ada <ada@example.com>" in said
    assert f"since {time.strftime('%Y')}-" in said


def test_the_lock_ends_with_a_killed_holder(tmp_path: Path) -> None:
    _kill(_hold_in_a_child(tmp_path / "delay"))

    with exclusive(tmp_path / "delay", "it", "Sam"):
        pass


def test_a_lock_that_was_given_back_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "delay", "it", "Sam"):
            pass


def test_an_error_inside_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), exclusive(tmp_path / "delay", "it", "Sam"):
        raise ValueError("mine")

    with exclusive(tmp_path / "delay", "it", "Sam"):
        pass


def test_a_patient_second_gets_it_when_the_first_ends(tmp_path: Path) -> None:
    child = _hold_in_a_child(tmp_path / "delay")
    end = threading.Timer(0.2, _kill, [child])
    end.start()

    with exclusive(tmp_path / "delay", "it", "Sam", wait_s=30.0):
        end.join()


def test_a_folder_that_cannot_be_made_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(MachineUnready, match="file"), exclusive(tmp_path / "file/lock", "it", "Sam"):
        pass
