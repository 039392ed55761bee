"""The same model wherever it was trained; and what goes wrong on the way there, said once and plainly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from coalmine.errors import MachineUnready, Unavailable
from coalmine.evaluation import dask_cluster as place_there
from coalmine.evaluation.spread import Place, spread
from coalmine.spec import Engine, Training
from pipelines.prepare import prepare
from tests.pipelines.dask_processes import DaskCluster, dask_cluster

TOP = Path(__file__).parents[2]
FOREST = {
    "class": "sklearn.pipeline.Pipeline",
    "params": {
        "steps": [
            ["gaps", {"class": "sklearn.impute.SimpleImputer"}],
            [
                "own",
                {
                    "class": "sklearn.preprocessing.FunctionTransformer",
                    "params": {"func": {"function": "pipelines.features.own"}},
                },
            ],
            [
                "forest",
                {
                    "class": "sklearn.ensemble.RandomForestClassifier",
                    "params": {"n_estimators": 20, "n_jobs": 2},
                },
            ],
        ]
    },
}
TUNING = {
    "metric": "log_loss",
    "budget": 4,
    "folds": 3,
    "search": {"forest__max_depth": [2, 4], "forest__min_samples_leaf": [1, 5]},
}
OWN = "\n\ndef own(rows):\n    return np.asarray(rows, dtype=float) * {factor}\n"
LINEAR = {
    "class": "sklearn.pipeline.Pipeline",
    "params": {
        "steps": [
            *FOREST["params"]["steps"][:2],
            ["last", {"class": "sklearn.linear_model.LogisticRegression", "params": {"C": 0.001}}],
        ]
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.fixture
def buyers(workshop):
    """The model, whose estimator names a function that only this repository has."""
    shutil.copytree(TOP / "pipelines", workshop.top / "pipelines", ignore=shutil.ignore_patterns("__pyc*"))
    write_own(workshop, 1)
    prepare(workshop.top, "buyers")
    workshop.write_model(estimator=FOREST, tuning=TUNING)
    return workshop


def write_own(workshop, factor: float) -> None:
    text = (TOP / "pipelines/features.py").read_text()
    (workshop.top / "pipelines/features.py").write_text(text + OWN.format(factor=factor))


def run(workshop, stage: str, scheduler: str | None = None, **environment: str):
    given = {**os.environ, "PYTHONPATH": f"{workshop.top}:{TOP}", **environment}
    given.pop("COALMINE_DASK_SCHEDULER", None)
    if scheduler is not None:
        given["COALMINE_DASK_SCHEDULER"] = scheduler
    return subprocess.run(
        [sys.executable, "-m", f"pipelines.{stage}", "models/buyers"],
        cwd=workshop.top,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )


def trained(workshop, scheduler: str | None = None) -> tuple[bytes, bytes]:
    for stage in ("tune", "train"):
        ran = run(workshop, stage, scheduler)
        assert ran.returncode == 0, ran.stderr
    return (workshop.model / "tuned.json").read_bytes(), (workshop.model / "model.skops").read_bytes()


def on_dask(workshop, **changes) -> None:
    workshop.write_model(**{"estimator": FOREST, "tuning": TUNING, "training": {"engine": "dask"}, **changes})


def spread_there(workshop, scheduler: str, work: Callable[[], object], tell=lambda _: None):
    return spread(Training(engine=Engine.DASK), Place(workshop.top / "pipelines", scheduler, tell), work)


# --- the same model --------------------------------------------------------------------


def test_one_core_and_two_workers_give_the_same_bytes(buyers, cluster):
    here = trained(buyers)
    on_dask(buyers)
    assert trained(buyers, cluster.address) == here


def test_without_a_scheduler_this_machines_cores_give_the_same_bytes(buyers):
    here = trained(buyers)
    on_dask(buyers)
    assert trained(buyers) == here


def test_it_says_where_it_trains(buyers, cluster):
    on_dask(buyers)
    assert run(buyers, "tune", cluster.address).stderr.startswith(
        f"Training on 2 workers of {cluster.address}."
    )


def test_workers_run_this_repositorys_code_and_not_what_they_had_before(buyers, cluster):
    """A worker stays for days; the code changes with each commit."""
    on_dask(buyers, estimator=LINEAR, tuning={**TUNING, "search": {"last__C": [0.001, 1.0]}, "budget": 2})
    tuned = []
    for factor in (1, 1000):
        write_own(buyers, factor)
        assert run(buyers, "tune", cluster.address).returncode == 0
        tuned.append((buyers.model / "tuned.json").read_bytes())
    assert tuned[0] != tuned[1]
    buyers.write_model(estimator=LINEAR, tuning={**TUNING, "search": {"last__C": [0.001, 1.0]}, "budget": 2})
    assert run(buyers, "tune").returncode == 0
    assert (buyers.model / "tuned.json").read_bytes() == tuned[1]


def test_a_worker_that_comes_later_has_the_code_too(buyers, tmp_path):
    with dask_cluster(tmp_path / "dask") as cluster:

        def work() -> list[float]:
            for old in list(cluster.workers):
                cluster.add_worker()
                cluster.end(old)
            from joblib import Parallel, delayed

            return Parallel()(delayed(_own_of_the_repository)(number) for number in range(4))

        assert spread_there(buyers, cluster.address, work) == [0.0, 1.0, 2.0, 3.0]


def _own_of_the_repository(number: int) -> float:
    from pipelines import features

    return float(features.own(number))  # no other `pipelines` here has it


def test_an_estimator_with_nothing_to_divide_asks_no_scheduler(buyers):
    on_dask(buyers, estimator={"class": "sklearn.ensemble.HistGradientBoostingClassifier"}, tuning=None)
    assert run(buyers, "tune", "tcp://127.0.0.1:1").returncode == 0
    assert run(buyers, "train", "tcp://127.0.0.1:1").returncode == 0


# --- what goes wrong -------------------------------------------------------------------


def test_without_dask_it_says_what_to_install(buyers, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "coalmine.evaluation.dask_cluster")
    with pytest.raises(MachineUnready, match=r'pip install "coalmine\[cluster\]"'):
        spread_there(buyers, "tcp://127.0.0.1:1", lambda: None)


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("tcp://127.0.0.1:1", Unavailable, "tcp://127.0.0.1:1 does not answer (Connection refused"),
        ("dask-scheduler:8786", MachineUnready, "is dask-scheduler:8786, which is no address"),
        ("tcp://dask-scheduler", MachineUnready, "write it as tcp://HOST:PORT"),
    ],
    ids=["nobody there", "no scheme", "no port"],
)
def test_a_scheduler_that_cannot_be_asked_is_named_and_nothing_is_written(buyers, address, error, said):
    on_dask(buyers)
    ran = run(buyers, "tune", address)
    assert ran.returncode == error.exit_code
    assert said in ran.stderr.replace("[Errno 111] ", "")
    assert "COALMINE_DASK_SCHEDULER" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (buyers.model / "tuned.json").exists()


def test_a_cluster_without_workers_is_not_waited_for_without_end(buyers, tmp_path, monkeypatch):
    monkeypatch.setattr(place_there, "WORKERS_WITHIN_S", 1)
    with (
        dask_cluster(tmp_path / "dask", workers=0) as cluster,
        pytest.raises(Unavailable, match="has no worker, and got none within 1 s"),
    ):
        spread_there(buyers, cluster.address, lambda: None)


def test_a_worker_with_other_libraries_is_refused_with_both_versions(buyers, tmp_path):
    other = tmp_path / "libraries/scikit_learn-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 0.1\n")
    with dask_cluster(tmp_path / "dask", workers=1) as cluster:
        path = os.pathsep.join([str(other.parent), os.environ.get("PYTHONPATH", "")])
        cluster.add_worker(environment={"PYTHONPATH": path})
        with pytest.raises(MachineUnready, match=r"has scikit-learn 0\.1 \(1\.\d+\.\d+ here\)"):
            spread_there(buyers, cluster.address, lambda: None)


@pytest.mark.parametrize(
    ("threads", "environment", "said"),
    [
        (2, {}, "has 2 threads.*--nthreads 1"),
        (1, {"OMP_NUM_THREADS": "4"}, "start it with OMP_NUM_THREADS=1"),
    ],
    ids=["two threads", "threads of the libraries"],
)
def test_a_worker_whose_sums_could_differ_is_refused(buyers, tmp_path, threads, environment, said):
    with dask_cluster(tmp_path / "dask", workers=0) as cluster:
        cluster.add_worker(threads=threads, environment=environment)
        with pytest.raises(MachineUnready, match=said):
            spread_there(buyers, cluster.address, lambda: None)


# --- what ends amid it -----------------------------------------------------------------


def _slowly(rows, number: int) -> int:
    time.sleep(0.3)
    return len(rows) + number


def _parts(rows) -> list[int]:
    from joblib import Parallel, delayed

    return Parallel()(delayed(_slowly)(rows, number) for number in range(10))


def _after(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("seconds", [0.2, 1.0], ids=["with rows that nobody else has", "later"])
def test_a_worker_that_dies_costs_time_and_nothing_else(buyers, tmp_path, number, seconds):
    rows = list(range(1000))
    with dask_cluster(tmp_path / "dask") as cluster:

        def work() -> list[int]:
            _after(seconds, lambda: cluster.end(cluster.workers[number]))
            return _parts(rows)

        assert spread_there(buyers, cluster.address, work) == [1000 + part for part in range(10)]


def test_a_scheduler_that_dies_is_said(buyers, tmp_path):
    with dask_cluster(tmp_path / "dask") as cluster:

        def work() -> list[int]:
            _after(0.7, lambda: cluster.end(cluster.scheduler))
            return _parts([1])

        with pytest.raises(Unavailable, match="was lost amid the training"):
            spread_there(buyers, cluster.address, work)


def test_when_the_last_worker_dies_it_is_not_waited_for_without_end(buyers, tmp_path, monkeypatch):
    monkeypatch.setattr(place_there, "WORKERS_WITHIN_S", 2)
    with dask_cluster(tmp_path / "dask") as cluster:

        def work() -> list[int]:
            for worker in cluster.workers:
                _after(0.7, partial(cluster.end, worker))
            return _parts([1])

        with pytest.raises(Unavailable):
            spread_there(buyers, cluster.address, work)


def test_a_part_that_takes_its_workers_down_is_named_as_the_reason(buyers, tmp_path):
    environment = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with dask_cluster(tmp_path / "dask", workers=0, **environment) as cluster:
        for _ in range(2):
            cluster.add_worker(nanny=True)

        def work() -> list[None]:
            from joblib import Parallel, delayed

            return Parallel()(delayed(os._exit)(1) for _ in range(2))

        with pytest.raises(MachineUnready, match="want of memory"):
            spread_there(buyers, cluster.address, work)


def test_two_trainings_on_one_cluster_take_turns(buyers, cluster):
    spans: list[tuple[float, float]] = []

    def training() -> None:
        def work() -> None:
            began = time.monotonic()
            time.sleep(1)
            spans.append((began, time.monotonic()))

        spread_there(buyers, cluster.address, work)

    threads = [threading.Thread(target=training) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (_, first_ended), (second_began, _) = sorted(spans)
    assert second_began >= first_ended
