"""What coalmine adds to DVC and Prefect, and how DVC's layout scales.

python -m benchmarks.pipeline [--quick]

Every figure is a ratio of two things timed in turn in this run, or a time with its reference
beside it: machines are shared and noisy. `--quick` leaves out Prefect and the largest sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml

from benchmarks.table import Figure, report
from coalmine.registry.dvc import DvcProject
from coalmine.scaffold.repository import init

MODEL, DATASET = "credit-risk", "german-credit"
BIN = Path(sys.executable).parent
WHO = {name: value for role in ("AUTHOR", "COMMITTER") for name, value in (
    (f"GIT_{role}_NAME", "Benchmark"), (f"GIT_{role}_EMAIL", "benchmark@example.com"))}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 45 s")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pipeline.json"))
    arguments = parser.parse_args()
    os.environ |= {**WHO, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        figures = [
            *_nothing_changed(top / "one", rounds=2 if arguments.quick else 7),
            *_one_of_many(top / "many", models=100 if arguments.quick else 1000),
            *_one_partition_more(top / "data", (10, 1000) if arguments.quick else (10, 1000, 10_000)),
        ]
        if not arguments.quick:
            figures += _flow_beside_command(top / "one")
    return report(figures, arguments.out)


# --- a retraining where nothing changed ------------------------------------------------


def _nothing_changed(top: Path, rounds: int) -> list[Figure]:
    init(top)
    _run(top, "coalmine", "ingest", DATASET)
    _run(top, "coalmine", "retrain", MODEL)
    ours, dvcs = _in_turn(
        rounds,
        lambda: _run(top, "coalmine", "retrain", MODEL),
        lambda: _run(top, "dvc", "repro", "-s", f"data/{DATASET}/dvc.yaml", f"models/{MODEL}/dvc.yaml"),
    )
    note = f"{ours:.2f} s against {dvcs:.2f} s, median of {rounds}"
    return [Figure("coalmine retrain / dvc repro, nothing changed", ours / dvcs, "x", 1.5, note)]


# --- one model among many --------------------------------------------------------------


def _one_of_many(top: Path, models: int) -> list[Figure]:
    """The same stages in one dvc.yaml with a matrix, and in one dvc.yaml for each model."""
    layouts = {"in one dvc.yaml (matrix)": _matrix, "in a dvc.yaml of its own": _own_files}
    figures = []
    for name, write in layouts.items():
        repository = top / write.__name__
        repository.mkdir(parents=True)
        _run(repository, "git", "init", "-q")
        _run(repository, "dvc", "init", "-q")
        target = write(repository, models)
        _run(repository, "dvc", "repro", "-q", *target)
        seconds = _seconds(partial(_run, repository, "dvc", "repro", "-q", *target))
        limit = 5.0 if write is _own_files else None
        figures.append(Figure(f"dvc repro of one of {models} models {name}", seconds, "s", limit))
    return figures


def _stages(folder: str, params: str) -> dict[str, object]:
    def touch(name: str) -> str:
        return f"{sys.executable} -c \"open('{folder}{name}', 'w').write('1')\""

    return {
        "prepare": {"cmd": touch("prepared"), "params": [{params: ["data"]}], "outs": [f"{folder}prepared"]},
        "train": {"cmd": touch("model"), "deps": [f"{folder}prepared"], "outs": [f"{folder}model"]},
        "evaluate": {"cmd": touch("metrics"), "deps": [f"{folder}model"], "outs": [f"{folder}metrics"]},
        "card": {"cmd": touch("card"), "deps": [f"{folder}metrics"], "outs": [f"{folder}card"]},
    }


def _model_folders(repository: Path, models: int) -> list[Path]:
    folders = [repository / "models" / f"m{number:04d}" for number in range(models)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text("data: 1\n")
    return folders


def _matrix(repository: Path, models: int) -> Sequence[str]:
    names = [folder.name for folder in _model_folders(repository, models)]
    folder = "models/${item.model}/"
    stages = {
        name: {"matrix": {"model": "${models}"}, **stage}  # type: ignore[dict-item]
        for name, stage in _stages(folder, f"{folder}model.yaml").items()
    }
    (repository / "names.yaml").write_text(yaml.safe_dump({"models": names}))
    (repository / "dvc.yaml").write_text(
        yaml.safe_dump({"vars": ["names.yaml"], "stages": stages}, width=1000)
    )
    return ["card@m0007"]


def _own_files(repository: Path, models: int) -> Sequence[str]:
    text = yaml.safe_dump({"stages": _stages("", "model.yaml")}, width=1000, sort_keys=False)
    for folder in _model_folders(repository, models):
        (folder / "dvc.yaml").write_text(text)
    return ["-s", "models/m0007/dvc.yaml"]


# --- one partition more ----------------------------------------------------------------


def _one_partition_more(top: Path, sizes: Sequence[int]) -> list[Figure]:
    """Beside each time: what loading, changing and hashing the folder's listing costs by itself."""
    own = {size: _seconds_to_add(top / str(size), size) for size in sizes}
    least = own[sizes[0]][0] - own[sizes[0]][1]
    figures = []
    for size, (seconds, listing) in own.items():
        note = f"{seconds * 1000:.0f} ms, of which the listing alone {listing * 1000:.0f} ms"
        ratio = (seconds - listing) / least
        limit = None if size == sizes[0] else 1.5
        figures.append(Figure(f"one partition more to {size}, without the listing", ratio, "x", limit, note))
    return figures


def _seconds_to_add(top: Path, size: int) -> tuple[float, float]:
    """The least of several times, for the addition and for the listing: what is above is noise."""
    partitions = top / "data" / "d" / "partitions"
    partitions.mkdir(parents=True)
    _run(top, "git", "init", "-q")
    _run(top, "dvc", "init", "-q")
    for number in range(size):
        (partitions / f"{number:06d}.parquet").write_text(str(number))
    project, folder = DvcProject(top), Path("data/d/partitions")
    project.add_partitions(folder, [path.name for path in partitions.iterdir()])

    def add(number: int) -> float:
        (partitions / f"new-{number}.parquet").write_text(f"new {number}")
        return _seconds(lambda: project.add_partitions(folder, [f"new-{number}.parquet"]))

    add(0)  # imports
    return min(add(number) for number in range(1, 6)), min(_listing(top, project, folder) for _ in range(5))


def _listing(top: Path, project: DvcProject, folder: Path) -> float:
    from dvc_data.hashfile.tree import Tree

    digest = project.dataset_digest(folder)
    path = top / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]

    def load_and_hash() -> None:
        tree = Tree.from_list(json.loads(path.read_text()), hash_name="md5")
        tree.digest()

    return _seconds(load_and_hash)


# --- a flow beside the command ---------------------------------------------------------


def _flow_beside_command(top: Path, rounds: int = 3) -> list[Figure]:
    """Whole process against whole process, against a running Prefect server."""
    from coalmine.operations import platform
    from coalmine.operations.local_environment import LocalEnvironment
    from coalmine.operations.workspace import Workspace

    workspace = Workspace.open(top)
    serving = LocalEnvironment(workspace, "local")
    serving.up()
    try:
        env = platform.start_prefect_server(workspace, serving)
        flow, command = _in_turn(
            rounds,
            lambda: _run(top, "python", "-m", "flows", "retrain", "--model", MODEL, env=env),
            lambda: _run(top, "coalmine", "retrain", MODEL),
        )
    finally:
        serving.stack.down()
    note = f"{flow:.1f} s against {command:.1f} s, median of {rounds}"
    return [Figure("a Prefect flow adds to the command", flow - command, "s", 8.0, note)]


# --- timing ----------------------------------------------------------------------------


def _in_turn(rounds: int, *acts: Callable[[], None]) -> list[float]:
    """The median seconds of each act, timed in turn so that all see the same noise."""
    times = [[_seconds(act) for act in acts] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _run(top: Path, program: str, *words: str, env: dict[str, str] | None = None) -> None:
    path = BIN / program if (BIN / program).exists() else shutil.which(program)
    ran = subprocess.run(
        [str(path), *words],
        cwd=top,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        sys.exit(f"{program} {' '.join(words)} failed: {ran.stdout}{ran.stderr}")


if __name__ == "__main__":
    sys.exit(main())
