"""Stages of DVC in a process apart, and what their end means."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from coalmine.errors import (
    AlreadyRunning,
    CoalmineError,
    Conflict,
    InputError,
    IntegrityError,
    MachineUnready,
    Unavailable,
)
from coalmine.registry.faults import machine_fault_in

OnLine = Callable[[str], None]

_RUNNING = re.compile(r"Running stage '(?:.*:)?([^':]+)':")
_FAILED = re.compile(r"failed to reproduce '(?:[^']*:)?([^':]+)'")
_EXITED = re.compile(r"exited with (-?\d+)")
_LAST_LINES = 15
_END_S = 10.0  # what a stage has to end after it was told to


def run_apart(top: Path, target: str, on_line: OnLine, python: Path) -> set[str]:
    """Reproduce `target` of the repository at `top` in a process of its own; which stages ran.

    python: the interpreter that is `python` to the stages.

    Apart, since DVC hands its own output channels to the stages, and so that a stage never
    outlives the release it belongs to.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "coalmine.registry.reproduce", target],
        cwd=top,
        env=_stage_environment(python),
        stdin=subprocess.PIPE,  # never written to: it ends when this process does
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            on_line(lines[-1])
        status = process.wait()
    except BaseException:  # Ctrl-C, or whatever `on_line` raises: take the stage along
        _end_group(process)
        raise
    finally:
        process.stdout.close()
        process.stdin.close()
    if status != 0:
        raise _stage_fault(target, lines)
    return {match[1] for line in lines if (match := _RUNNING.match(line))}


def _stage_environment(python: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        # The stages' `python` is that one, also where nobody activated its environment.
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",  # lines arrive when they are printed
    }


def _end_group(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_END_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _stage_fault(target: str, lines: list[str]) -> CoalmineError:
    said = "\n".join(lines)
    if "is being blocked by" in said or "Unable to acquire lock" in said:
        return AlreadyRunning(f"Another DVC command is at work on {target}:\n{_last(lines)}")
    own = next((number for number, line in enumerate(lines) if line.startswith("ERROR:")), len(lines))
    exited = _EXITED.search(said)
    status = int(exited[1]) if exited else None
    stage = _FAILED.search(said)
    head = f"Stage {stage[1] if stage else target} failed ({target}; run it by hand: dvc repro -s {target})"
    # The shell that DVC puts before the command tells of its end in a status of its own.
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return MachineUnready(f"{head}: it was killed, most likely for want of memory.\n{_last(lines[:own])}")
    kinds = (InputError, MachineUnready, Unavailable, Conflict, IntegrityError)
    kind = next((kind for kind in kinds if kind.exit_code == status), None)
    if kind is None:
        fault = machine_fault_in(said, target)
        if fault is not None:
            return fault
    return (kind or CoalmineError)(f"{head}:\n{_last(lines[:own] if exited else lines)}")


def _last(lines: list[str]) -> str:
    return "\n".join([line for line in lines if line.strip()][-_LAST_LINES:])
