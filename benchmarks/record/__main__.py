"""How long an auditor waits: the questions of `coalmine audit`, asked of a fresh clone of a long record.

python -m benchmarks.record [--quick]

Each question is a command of its own, at three sizes of the record, so that the growth is seen. The time is
that of the whole command, with the start of Python; on a machine that does other things too, see the
processor's as well. The memory is the most that it held, and is never told
as less than what this process holds itself. `--quick` takes a tenth of the releases and the same targets.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record.made import BEGAN, ENVIRONMENT, make
from benchmarks.table import Figure, report

OUT = Path(__file__).parents[1] / "results" / "record.json"
SIZES = ((1_000, 100), (3_000, 300), (10_000, 1_000))  # releases, of models
QUICK = ((100, 10), (300, 30), (1_000, 100))
AT_MOST_S = 3.0
TRIES = 3


@dataclass(frozen=True)
class Question:
    """at_most_s: None where there is no target."""

    name: str
    words: tuple[str, ...]
    at_most_s: float | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 45 s")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    sizes, tries = (QUICK, 1) if arguments.quick else (SIZES, TRIES)
    with tempfile.TemporaryDirectory() as folder:
        figures = [figure for size in sizes for figure in _measured(Path(folder), *size, tries)]
    return report(figures, arguments.out)


def _measured(folder: Path, releases: int, models: int, tries: int) -> list[Figure]:
    remote, clone = folder / f"{releases}.git", folder / f"{releases}"
    names = make(remote, releases, models)
    subprocess.run(["git", "clone", "-q", remote.as_uri(), str(clone)], check=True)
    figures = []
    for question in _questions(names[len(names) // 2]):
        took = [_ask(clone, question.words) for _ in range(tries)]
        best = min(took, key=lambda each: each.seconds)
        name = f"{question.name}, {releases:,} releases"
        note = f"{best.processor_s:.1f} s of processor, {best.memory_mb:.0f} MB"
        figures.append(Figure(name, best.seconds, "s", at_most=question.at_most_s, note=note))
    return figures


def _questions(model: str) -> list[Question]:
    some_weeks_on = f"{BEGAN:%Y-%m}-03T12:00"
    return [
        Question("what serves now", (), AT_MOST_S),
        Question("what served at a time", ("--at", some_weeks_on), AT_MOST_S),
        Question("one model's history", (model, "--history"), AT_MOST_S),
        Question("by dataset and digest", ("--dataset", f"flights@{7:032x}"), AT_MOST_S),
        Question("by dataset, all releases", ("--dataset", "flights", "--csv"), AT_MOST_S),
        Question("one model in full", (model, "-e", ENVIRONMENT)),
        Question("between two times", ("--since", some_weeks_on, "--until", f"{BEGAN:%Y-%m}-04")),
        Question("by a person", ("--by", "Ada")),
        Question("by commit", ("--commit", "HEAD")),
    ]


@dataclass(frozen=True)
class _Took:
    seconds: float
    processor_s: float
    memory_mb: float


def _ask(clone: Path, words: tuple[str, ...]) -> _Took:
    """What one command took, with the git processes that it started."""
    if words == ("--commit", "HEAD"):
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True
        )
        words = ("--commit", head.stdout.strip())
    program = str(Path(sys.executable).with_name("coalmine"))
    began_s = time.monotonic()
    asked = subprocess.Popen([program, "audit", *words], cwd=clone, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(asked.pid, 0)
    asked.returncode = os.waitstatus_to_exitcode(status)
    if asked.returncode != 0:
        raise RuntimeError(f"coalmine audit {' '.join(words)} ended with {asked.returncode}")
    seconds = time.monotonic() - began_s
    return _Took(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


if __name__ == "__main__":
    sys.exit(main())
