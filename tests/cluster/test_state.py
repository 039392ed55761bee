"""A rollout's state on a real API server: what the journal keeps, and who goes on when a runner is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import CONFIG_MAP, LEASE
from coalmine.cluster.lease import Terms
from coalmine.durable import read_lines
from coalmine.errors import AlreadyRunning
from coalmine.journals.cluster_rollouts import ClusterRollouts
from coalmine.journals.journal import begin, keep_plan, read_events, read_ticks
from coalmine.registry.repository import Repository
from coalmine.rollout.plan import Plan
from coalmine.rollout.ports import Journal, Request
from coalmine.rollout.replay import replay
from coalmine.settings import GitSettings
from tests.cluster.state_runner import ENVIRONMENT, rollouts
from tests.contracts.journal import JournalContract, carry_out, saved
from tests.journals.cluster_place import told_in
from tests.journals.fake_rollouts import FakeRollout
from tests.rollout.stories import plan

FAKE = FakeRollout(environment=ENVIRONMENT)
MODEL = FAKE.model
QUICK = Terms(lasts_s=2.0, renewed_every_s=0.5, look_every_s=0.1)
KILLS = 3
STARTED_WITHIN_S = 6.0
TAKEN_OVER_WITHIN_S = 20.0  # a lease of 15 s, a look each second, and a busy machine; the promise is 60


@pytest.fixture
def machines(cluster: Cluster, tmp_path: Path) -> Callable[[], ClusterRollouts]:
    """Each time the rollouts of another clone, with its own connection."""
    count = iter(range(1000))

    def machine() -> ClusterRollouts:
        top = tmp_path / f"machine-{next(count)}"
        reached = Cluster.connect(cluster.namespace)
        return ClusterRollouts(reached, Repository(top, None), GitSettings(), ENVIRONMENT, QUICK)  # type: ignore[arg-type]

    return machine


def folder_of(its_rollouts: ClusterRollouts) -> Path:
    (folder,) = its_rollouts.at_hand(MODEL)
    return folder


def publish(top: Path, its_rollouts: ClusterRollouts, its_plan: Plan) -> Path:
    folder = begin(top, FAKE.about)
    keep_plan(folder, its_plan)
    its_rollouts.publish(folder)
    return folder


class TestClusterJournal(JournalContract):
    """Each process on a machine of its own."""

    @pytest.fixture
    def open_journal(self, machines: Callable[[], ClusterRollouts], tmp_path: Path) -> Callable[[], Journal]:
        publish(tmp_path, machines(), plan())

        def opened() -> Journal:
            its_rollouts = machines()
            return its_rollouts.journal(folder_of(its_rollouts))

        return opened

    @pytest.fixture
    def ask(self, machines: Callable[[], ClusterRollouts]) -> Callable[[Request], None]:
        def asked(request: Request) -> None:
            its_rollouts = machines()
            its_rollouts.ask(folder_of(its_rollouts), request)

        return asked

    @pytest.fixture
    def told(self, machines: Callable[[], ClusterRollouts]) -> Callable[[], tuple[list[int], list[int]]]:
        return lambda: told_in(folder_of(machines()))


def test_of_many_that_begin_at_once_one_drives(
    machines: Callable[[], ClusterRollouts], tmp_path: Path
) -> None:
    publish(tmp_path, machines(), plan())
    ready, drove, refused = threading.Barrier(6), [], []

    def begin_to_drive() -> None:
        its_rollouts = machines()
        journal = its_rollouts.journal(folder_of(its_rollouts))
        ready.wait()
        try:
            with journal.lease():
                carry_out(journal, 0)
                drove.append(journal)
                time.sleep(2 * QUICK.lasts_s)
        except AlreadyRunning:
            refused.append(journal)

    threads = [threading.Thread(target=begin_to_drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(drove), len(refused)) == (1, 5)


def test_people_read_where_a_rollout_is_with_kubectl_alone(
    cluster: Cluster, machines: Callable[[], ClusterRollouts], tmp_path: Path
) -> None:
    its_rollouts = machines()
    publish(tmp_path, its_rollouts, plan())
    with (journal := its_rollouts.journal(folder_of(its_rollouts))).lease():
        carry_out(journal, 0)
        kept, lease = cluster.get(CONFIG_MAP, f"{MODEL}-rollout"), cluster.get(LEASE, f"{MODEL}-rollout")
        assert kept is not None
        assert lease is not None
        assert json.loads(kept["data"]["state.json"]) == saved(0)
        assert json.loads(kept["data"]["about.json"])["candidate"] == FAKE.version
        assert kept["metadata"]["labels"]["coalmine.dev/rollout"] == FAKE.about.id
        assert FAKE.about.id in lease["spec"]["holderIdentity"]
        assert lease["spec"]["leaseDurationSeconds"] == QUICK.lasts_s
    given_back = cluster.get(LEASE, f"{MODEL}-rollout")
    assert given_back is not None
    assert "holderIdentity" not in given_back["spec"]


class Runners:
    """Processes that look for rollouts without a runner, each with a clone of its own and the same route."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self.route = folder / "route.jsonl"
        self.all: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        top = self._folder / f"runner-{len(self.all)}"
        words = ["-m", "tests.cluster.state_runner", self._cluster.namespace, str(top), str(self.route)]
        self.all.append(subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True))
        return self.all[-1]

    def await_driver(self, process: subprocess.Popen[str]) -> float:
        """When the lease was seen to be its."""
        while True:
            lease = self._cluster.get(LEASE, f"{MODEL}-rollout")
            assert lease is not None
            if f"/{process.pid}/" in lease["spec"].get("holderIdentity", ""):
                return time.monotonic()
            assert process.poll() is None
            time.sleep(0.05)

    def end(self) -> None:
        for process in self.all:
            process.kill()
            process.communicate()


@pytest.fixture
def runners(cluster: Cluster, tmp_path: Path) -> Iterator[Runners]:
    started = Runners(cluster, tmp_path)
    yield started
    started.end()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_runner_killed_by_sigkill_is_followed_by_one_on_another_machine_again_and_again(
    cluster: Cluster, runners: Runners, tmp_path: Path
) -> None:
    """Each time at another moment of a tick. Whoever drives, the users are moved once to each weight."""
    its_plan = plan(stages=[10, 30, 50], bake_s=20, poll_s=1, no_data_budget_s=600)
    publish(tmp_path / "reader", rollouts(cluster, tmp_path / "reader"), its_plan)
    reader = rollouts(cluster, tmp_path / "reader")
    driver, took_s = runners.start(), []
    for number in range(KILLS):
        runners.await_driver(driver)
        heir = runners.start()
        time.sleep(STARTED_WITHIN_S + number * 0.37)  # it looks, and finds the rollout driven
        assert heir.poll() is None
        driver.kill()
        killed_s = time.monotonic()
        took_s.append(runners.await_driver(heir) - killed_s)
        driver = heir
    out, _ = driver.communicate(timeout=200)
    print("taken over after", [round(seconds, 1) for seconds in took_s], "s")
    assert json.loads(out)["phase"] == "promoted"
    assert max(took_s) < TAKEN_OVER_WITHIN_S
    assert [move["weight"] for move in read_lines(runners.route)[0]] == [10, 30, 50, 100]
    assert reader.at_hand(MODEL) == []
    (folder,) = reader.folders(MODEL)
    steps = list(replay(its_plan, read_ticks(folder)))
    assert [event for step in steps for event in step.decision.events] == read_events(folder)
