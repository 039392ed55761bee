"""How long whoever asks the record waits: `coalmine audit` and `coalmine verify` on clones of long ones, and
`coalmine watch` on clusters of many models.

python -m benchmarks.record [--quick]

Each question is a command of its own, at three sizes, so that the growth is seen. What is told is the best of
some tries, with the start of Python. Of `audit`, which does one thing after the other, that is the
processor's time: what one waits on a machine that does nothing else. Of `verify` and `watch`, which work on
all cores, it is the time that passed, so leave the machine to it. The other of the two stands beside it, and
how many processes wanted to run. How a question grows is the ratio of its processor times in this run. The
memory is the most that one process held, and never less than what this one holds itself. `--quick` leaves out
the largest size, and the questions without a target of their own; it has the same targets.

The cluster is an API server in memory, over HTTP. Its objects are built by Kustomize (`kustomize` or
`kubectl`), as the first look at a state of k8s/ does: that is told by itself, and the looks find it done.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from benchmarks.record.asking import Question, Took, best
from benchmarks.record.fleet import ENVIRONMENT as FLEET
from benchmarks.record.fleet import fleet
from benchmarks.table import Figure, report
from coalmine.audit.recorded import compute, from_files
from coalmine.audit.rollout_record import RECORD, parse_record
from tests.simulators.history import DATASET, ENVIRONMENT, recording, write_long_history

OUT = Path(__file__).parents[1] / "results" / "record.json"
SIZES = ((100, 10), (1_000, 100), (10_000, 1_000))  # releases, of models
FLEETS = (10, 100, 1_000)  # models of a cluster
QUICK = 2  # of the sizes
AUDIT_AT_MOST_S = 3.0
VERIFY_AT_MOST_S = 45.0
LOOK_AT_MOST_S = 30.0
LINEAR = 1.25  # how much more than in proportion a question may grow
TRIES = 3
YEAR = "2023"  # in the middle of the history
LOOKS_TRIES = 20
WHO = {"NAME": "Ada", "EMAIL": "ada@example.com"}  # commits

Measured = dict[Question, Took]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 45 s")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    number, tries = (QUICK, 1) if arguments.quick else (len(SIZES), TRIES)
    os.environ |= {f"GIT_{role}_{key}": who for role in ("AUTHOR", "COMMITTER") for key, who in WHO.items()}
    with tempfile.TemporaryDirectory() as folder:
        records = {
            size[0]: _of_record(Path(folder), *size, tries, arguments.quick) for size in SIZES[:number]
        }
        fleets = {size: _of_fleet(Path(folder), size, tries) for size in FLEETS[:number]}
    figures = [
        *_times(records, "releases"),
        *_growth(records, "releases"),
        _a_look_again(),
        *_times(fleets, "models"),
        *_growth(fleets, "models"),
    ]
    return report(figures, arguments.out)


def _of_record(folder: Path, releases: int, models: int, tries: int, quick: bool) -> Measured:
    remote, clone = folder / f"{releases}.git", folder / f"{releases}"
    names = write_long_history(remote, models=models, releases=releases, bare=True)
    subprocess.run(["git", "clone", "-q", remote.as_uri(), str(clone)], check=True)
    asked = [each for each in _questions(clone, names) if each.at_most_s is not None or not quick]
    return {question: best(clone, question, tries) for question in asked}


def _questions(clone: Path, names: list[str]) -> list[Question]:
    model, dates = names[len(names) // 2], ("--since", f"{YEAR}-06-01", "--until", f"{YEAR}-06-08")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True)
    return [
        Question("what serves now", ("audit",), AUDIT_AT_MOST_S),
        Question("what served at a time", ("audit", "--at", f"{YEAR}-06-01T12:00"), AUDIT_AT_MOST_S),
        Question("one model's history", ("audit", model, "--history"), AUDIT_AT_MOST_S),
        Question("by dataset, all releases", ("audit", "--dataset", DATASET, "--csv"), AUDIT_AT_MOST_S),
        Question("one model in full", ("audit", model, "-e", ENVIRONMENT)),
        Question("between two times", ("audit", *dates)),
        Question("by a person", ("audit", "--by", "Ada", "--csv")),
        Question("by commit", ("audit", "--commit", head.stdout.strip())),
        Question("does the record hold", ("verify",), VERIFY_AT_MOST_S, is_spread=True),
    ]


def _of_fleet(folder: Path, models: int, tries: int) -> Measured:
    clone = folder / f"fleet-{models}"
    look = ("watch", "-e", FLEET, "--once")
    with fleet(clone, models) as built:
        objects = Question("Kustomize builds all objects, once for a commit", (), is_spread=True)
        question = Question("a look", look, LOOK_AT_MOST_S, is_spread=True)
        return {objects: built.built, question: best(clone, question, tries, built.environment)}


def _times(measured: Mapping[int, Measured], of: str) -> Iterator[Figure]:
    for size, took in measured.items():
        for question, each in took.items():
            passed, worked = f"{each.seconds:.1f} s passed", f"{each.processor_s:.1f} s of processor"
            memory = "" if each.memory_mb is None else f"{each.memory_mb:.0f} MB, "
            beside = f"{memory}load {each.load:.0f}"
            note = f"{worked if question.is_spread else passed}, {beside}"
            seconds = each.seconds if question.is_spread else each.processor_s
            yield Figure(f"{question.name}, {size:,} {of}", seconds, "s", question.at_most_s, note)


def _growth(measured: Mapping[int, Measured], of: str) -> Iterator[Figure]:
    """Of each question; the commit and the model that it is about are another record's."""
    for smaller, larger in pairwise(measured):
        at_most = LINEAR * larger / smaller
        before, after = measured[smaller].values(), measured[larger].values()
        for question, less, more in zip(measured[larger], before, after, strict=True):
            times = more.processor_s / less.processor_s
            yield Figure(f"{question.name}, {smaller:,} to {larger:,} {of}", times, "times", at_most)


def _a_look_again() -> Figure:
    """What `verify` takes for each look of a rollout, which a real one has more of than the history here."""
    files = recording("promoted").files("model", "1.1.0", "1.0.0", "20200101T000000-v1.1.0")
    record = parse_record(files[RECORD].decode(), RECORD)
    took_s = []
    for _ in range(LOOKS_TRIES):
        began_s = time.process_time()
        recorded = from_files(record.id, record.model, "the simulation", record, files)
        if compute(recorded).difference is not None:
            raise RuntimeError("the rollout is not computed again as it was recorded")
        took_s.append((time.process_time() - began_s) / len(recorded.lines))
    note = f"of processor, in a rollout of {len(recorded.lines)} looks"
    return Figure("one look computed again", 1000 * min(took_s), "ms", note=note)


if __name__ == "__main__":
    sys.exit(main())
