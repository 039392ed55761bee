"""One command, asked in a process of its own, and what it took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SLOW_S = 10.0  # what takes longer is asked once


@dataclass(frozen=True)
class Question:
    """at_most_s: None where there is no target. is_spread: over all cores."""

    name: str
    words: tuple[str, ...]
    at_most_s: float | None = None
    is_spread: bool = False


@dataclass(frozen=True)
class Took:
    """memory_mb: None where it was not measured. load: how many processes wanted to run when it was over, on
    average over a minute."""

    seconds: float
    processor_s: float
    memory_mb: float | None
    load: float


def best(clone: Path, question: Question, tries: int, env: Mapping[str, str] | None = None) -> Took:
    """env: what it finds in its environment beside everything else."""
    took = [_ask(clone, question.words, env or {})]
    while len(took) < tries and took[0].seconds < SLOW_S:
        took.append(_ask(clone, question.words, env or {}))
    return min(took, key=lambda each: each.seconds if question.is_spread else each.processor_s)


def _ask(clone: Path, words: tuple[str, ...], env: Mapping[str, str]) -> Took:
    """What one command took, with the processes that it started."""
    program = str(Path(sys.executable).with_name("coalmine"))
    began_s = time.monotonic()
    asked = subprocess.Popen(
        [program, *words], cwd=clone, env={**os.environ, **env}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(asked.pid, 0)
    asked.returncode = os.waitstatus_to_exitcode(status)
    if asked.returncode != 0:
        raise RuntimeError(f"coalmine {' '.join(words)} ended with {asked.returncode}")
    seconds = time.monotonic() - began_s
    return Took(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, os.getloadavg()[0])
