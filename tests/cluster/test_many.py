"""Twenty models that release at once on one cluster, driven by one runner: what it asks of the API server,
what it takes of its machine, and when the last one is promoted. Figures are printed: pytest -rP.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import DEPLOYMENT
from tests.cluster.shop import ENVIRONMENT, Shop, opened
from tests.ports import reserved_port
from tests.scenarios.lending import LOANS
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Workplace, copied, stopped_at_the_end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MANY = 20
PER_S = 5.0  # requests per second and model
WITHIN_S = 420.0
PLAN = """rollout:
  stages: [50]
  bake_s: 4
  no_data_budget_s: 300
  progress_deadline_s: 300
  gates:
    - {gate: errors, margin: 0.1}
"""


@dataclass(frozen=True)
class Numbers:
    """Of the runner so far. memory: bytes."""

    requests: float
    cpu_s: float
    memory: float

    @classmethod
    def read(cls, port: int) -> Numbers:
        [requests] = figures(port, "coalmine_runner_cluster_requests_total")
        [cpu_s] = figures(port, "process_cpu_seconds_total")
        [memory] = figures(port, "process_resident_memory_bytes")
        return cls(requests, cpu_s, memory)


def figures(port: int, name: str) -> list[float]:
    """The metric of this name, of each of its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return [float(each) for each in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)]


@pytest.fixture
def crowd(released: Path, tmp_path: Path, cluster: Cluster) -> Iterator[Shop]:
    """As many models, each with two releases, none delivered."""
    template = copied(released, tmp_path / "template")
    multiply(template, names()[1:])
    with opened(template.top, tmp_path, cluster, "gateway_api") as shop, stopped_at_the_end(shop.work):
        shop.plan(PLAN)
        yield shop


def test_twenty_releases_at_once_under_one_runner(crowd: Shop) -> None:
    port = reserved_port()
    runner = crowd.work.start("runner", "--environment", ENVIRONMENT, "--metrics-port", str(port))
    try:
        took_s = deliver(crowd, "1.0.0")
        print(f"first releases, no users yet: all there after {took_s:.0f} s")
        await_nothing_under_way(port)
        idle = asked_in(port, 20.0)
        print(f"nothing under way: {idle * 3:.0f} requests a minute")
        with ExitStack() as users:
            asking_all = [users.enter_context(users_of(crowd, name)) for name in names()]
            asking_all[-1].await_requests(20)
            before = Numbers.read(port)
            took_s = deliver(crowd, "1.1.0")
            after = Numbers.read(port)
            failures = sum((Counter(each.failures) for each in asking_all), Counter())
            requests = sum(sum(each.answers.values()) for each in asking_all)
        minutes = took_s / 60
        print(f"{MANY} releases: the last promoted after {took_s:.0f} s")
        print(f"{(after.requests - before.requests) / MANY / minutes:.0f} requests per rollout and minute")
        print(f"{(after.cpu_s - before.cpu_s) / took_s:.0%} of a core, {after.memory / 2**20:.0f} MiB")
        print(f"{requests} requests of users, and failed: {dict(failures)}")
        await_nothing_under_way(port)
    finally:
        runner.terminate()
        print(runner.communicate()[0][-2000:])
    # A small node starts twenty servers meanwhile, and answers late or not at all: none is wrong.
    assert not [status for _, status in failures if isinstance(status, int)]
    crowd.work.git("pull", "-q", "--ff-only")
    for name in names():
        slots = crowd.work.read_yaml(f"k8s/environments/{ENVIRONMENT}/{name}/slots.yaml")
        assert slots["releases"][slots["stable"]]["version"] == "1.1.0"
        assert slots["candidate"] is None
    assert len(crowd.cluster.list(DEPLOYMENT)) == 2 * MANY


def await_nothing_under_way(port: int) -> None:
    deadline = time.monotonic() + WITHIN_S
    while any(figures(port, "coalmine_runner_rollouts")):
        assert time.monotonic() < deadline, "the runner has something under way still"
        time.sleep(1.0)


def names() -> list[str]:
    return [MODEL, *(f"{MODEL}-{number:02}" for number in range(1, MANY))]


def users_of(shop: Shop, name: str):
    url = f"http://{shop.address}/v2/models/{name}/infer"
    return asking(url, shop.work.top / LOANS, PER_S, {"host": shop.host})


def asked_in(port: int, seconds: float) -> float:
    before = Numbers.read(port).requests
    time.sleep(seconds)
    return Numbers.read(port).requests - before


def deliver(shop: Shop, version: str) -> float:
    """`version` of each model, all at once; the seconds until the last was promoted."""
    began = time.monotonic()
    deliveries = {
        name: shop.work.start("deliver", name, "--environment", ENVIRONMENT, "--version", version)
        for name in names()
    }
    said = {}
    for name, delivery in deliveries.items():
        try:
            out, err = delivery.communicate(timeout=max(1.0, WITHIN_S - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            delivery.kill()
            out, err = delivery.communicate()
        said[name] = (delivery.returncode, out[-1500:], err[-1500:])
    failed = {name: words for name, words in said.items() if words[0] != 0}
    print(*failed.items(), sep="\n")
    assert not failed
    return time.monotonic() - began


def multiply(work: Workplace, wanted: list[str]) -> None:
    """The first two releases of the one model, as releases of each of `wanted` too."""
    for version in ("1.0.0", "1.1.0"):
        for name in wanted:
            folder = work.top / "models" / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for file in ("manifest.yaml", "model.yaml", "dvc.yaml", "dvc.lock"):
                text = work.git("show", f"{MODEL}@v{version}:models/{MODEL}/{file}")
                (folder / file).write_text(text.replace(MODEL, name) + "\n", encoding="utf-8")
            spec = folder / "model.yaml"
            head, _ = spec.read_text(encoding="utf-8").split("rollout:\n", 1)
            spec.write_text(f"{head}{PLAN}", encoding="utf-8")
        work.commit(f"Releases {version} of many models")
        for name in wanted:
            work.git("tag", "-a", f"{name}@v{version}", "-m", f"{name} {version}")
    work.git("push", "-q", "--tags")
