"""The lender of the stories, served by a cluster: its Git and its data over HTTP, its users outside.

Flux and the pods read from this machine, so the cluster must reach it: COALMINE_TEST_HOST, or a node's
address where the node is this machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import POD
from tests.cluster.accounts import kubeconfig
from tests.cluster.file_server import serving_files
from tests.cluster.front_doors import front_door
from tests.cluster.git_server import serving_git
from tests.cluster.image import REFERENCE
from tests.cluster.kubectl import kubectl
from tests.scenarios.lending import LOANS, MODEL_YAML
from tests.scenarios.users import Users, asking
from tests.scenarios.workplace import MODEL, Workplace, copied

ENVIRONMENT = "production"
KUSTOMIZATION_NAME = f"coalmine-{ENVIRONMENT}"
PER_S = 200
ROLLED_BACK = 1
PROMETHEUS_URL = os.environ.get("COALMINE_TEST_PROMETHEUS", "http://127.0.0.1:9795")
# Polls as often as the test cluster's Prometheus scrapes; margins far wider than the defaults, so that a
# rollout at 200 requests per second takes half a minute.
CANARY = """rollout:
  stages: [30, 60]
  bake_s: 4
  poll_s: 2
  no_data_budget_s: 60
  gates:
    - {gate: errors, margin: 0.1}
    - {gate: latency, margin: 0.4, worst_ratio: 3, worst_difference: 0.3}
"""

# Long enough for something to die within, and for whoever comes next to see the rest of it.
LONG_BAKE = """rollout:
  stages: [30, 60]
  bake_s: 20
  poll_s: 2
  no_data_budget_s: 120
  gates:
    - {gate: errors, margin: 0.1}
"""

# Small nodes take several shops at once.
_SMALL_FETCH = {
    "target": {"kind": "Deployment"},
    "patch": "- {op: replace, path: /spec/template/spec/initContainers/0/resources/requests/cpu, value: 10m}",
}


@dataclass(frozen=True)
class Shop:
    """address: where the users' requests come in, `host:port`. host: the name that they ask for."""

    work: Workplace
    cluster: Cluster
    router: str
    address: str
    host: str

    @property
    def url(self) -> str:
        return f"http://{self.address}/v2/models/{MODEL}/infer"

    @property
    def slots(self) -> dict[str, str | None]:
        """Role to version, as the working tree has it."""
        content = self.work.read_yaml(f"k8s/environments/{ENVIRONMENT}/{MODEL}/slots.yaml")
        return {
            role: content[role] and content["releases"][content[role]]["version"]
            for role in ("stable", "candidate")
        }

    def start(self, verb: str, *words: str) -> subprocess.Popen[str]:
        return self.work.start(verb, MODEL, "--environment", ENVIRONMENT, *words)

    def run(self, verb: str, *words: str, status: int = 0) -> str:
        return self.work.run(verb, MODEL, "--environment", ENVIRONMENT, *words, status=status).out

    def deliver(self, version: str, *, status: int = 0) -> str:
        return self.run("deliver", "--version", version, status=status)

    def users(self, headers: Mapping[str, str] | None = None) -> AbstractContextManager[Users]:
        """200 a second, from outside the cluster."""
        return asking(self.url, self.work.top / LOANS, PER_S, {"host": self.host, **(headers or {})})

    @contextmanager
    def delivering(self, version: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A delivery of `version` that has begun a rollout and runs beside the block; ended after it."""
        before = self._newest()
        delivery = self.start("deliver", "--version", version, *words)
        try:
            while self._newest() == before:
                assert delivery.poll() is None, delivery.communicate()
                time.sleep(0.02)
            yield delivery
        finally:
            if delivery.poll() is None:
                delivery.kill()
                delivery.communicate()

    def pushed_stable(self) -> str:
        """The version that serves, as the remote's branch has it."""
        self.work.git("fetch", "-q")
        text = self.work.git("show", f"origin/main:k8s/environments/{ENVIRONMENT}/{MODEL}/slots.yaml")
        content = yaml.safe_load(text)
        return str(content["releases"][content["stable"]]["version"])

    def pods(self) -> dict[str, str]:
        """The uid of each pod to the version that it serves."""
        found: list[dict[str, Any]] = self.cluster.list(POD, {"app.kubernetes.io/name": MODEL})
        return {
            each["metadata"]["uid"]: each["metadata"]["labels"]["app.kubernetes.io/version"]
            for each in found
            if "deletionTimestamp" not in each["metadata"]
        }

    def events(self) -> list[dict[str, Any]]:
        """The story of the newest rollout, so far."""
        newest = self._newest()
        if newest is None:
            return []
        lines = newest.read_text(encoding="utf-8").split("\n")[:-1]  # whole ones
        return [json.loads(line) for line in lines]

    def _newest(self) -> Path | None:
        rollouts = self.work.top / ".coalmine/rollouts" / ENVIRONMENT / MODEL
        return max(rollouts.glob("*/events.jsonl"), key=lambda path: path.parent.name, default=None)

    def await_told(self, words: str, times: int = 1, within_s: float = 60.0) -> None:
        """Return when the newest rollout's story has `words`, in so many events."""
        deadline = time.monotonic() + within_s
        while sum(words in event["sentence"] for event in self.events()) < times:
            assert time.monotonic() < deadline, [event["sentence"] for event in self.events()]
            time.sleep(0.02)

    def told(self, users: Users) -> None:
        """The story of the newest rollout, and what users saw so far, for whoever runs this with -s."""
        events = self.events()
        for event in events:
            after_s = event["at_s"] - events[0]["at_s"]
            print(f"{after_s:7.1f} s {event['weight_percent']:3} %  {event['kind']}: {event['sentence']}")
        print(dict(users.answers))

    def plan(self, rollout: str) -> None:
        """From now on rollouts go by `rollout`, a section of model.yaml."""
        path = self.work.top / MODEL_YAML
        head, _ = path.read_text(encoding="utf-8").split("rollout:\n", 1)
        path.write_text(f"{head}{rollout}", encoding="utf-8")
        self.work.commit("Another plan")


def reachable_host(cluster: Cluster) -> str:
    """This machine, as pods and Flux reach it."""
    if host := os.environ.get("COALMINE_TEST_HOST"):
        return host
    ours = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    for node in cluster.raw("/api/v1/nodes")["items"]:
        for address in node["status"]["addresses"]:
            if address["type"] == "InternalIP" and address["address"] in ours:
                return str(address["address"])
    pytest.skip("no node is this machine: say by COALMINE_TEST_HOST how the cluster reaches it")


@contextmanager
def opened(released: Path, folder: Path, cluster: Cluster, router: str) -> Iterator[Shop]:
    """A shop in the namespace of `cluster`, which Flux keeps as its Git says; nothing is delivered yet.

    Flux and every command have the rights of the environment's two accounts, and no others.
    """
    host, name = reachable_host(cluster), f"{cluster.namespace}.example.com"
    work = copied(released, folder / "work")
    remotes = work.top / ".coalmine/remotes"
    with serving_git(remotes, host) as git, serving_files(remotes / "dvc", host) as dvc:
        work.git("remote", "set-url", "origin", f"{git}/git.git")
        words = ["--router", router, "--reconciler", "flux", "--namespace", cluster.namespace]
        words += ["--host", name, "--gateway", "users", "--prometheus-url", PROMETHEUS_URL]
        work.run("new", "environment", ENVIRONMENT, *words)
        _edit(work, dvc)
        _have_flux_bring_it(work, f"{git}/git.git")
        as_runner = {"KUBECONFIG": str(kubeconfig(cluster, "coalmine-runner", folder / "runner.kubeconfig"))}
        shop = Shop(replace(work, env=as_runner), cluster, router, front_door(cluster, router, name), name)
        shop.plan(CANARY)
        yield shop


def _edit(work: Workplace, dvc: str) -> None:
    """What a person fills in: the image and the DVC remote."""
    place = work.top / "k8s/environments" / ENVIRONMENT
    change(place / "settings.yaml", lambda content: content["data"].update(DVC_REMOTE=dvc))
    image, _, tag = REFERENCE.rpartition(":")
    change(
        place / "every_model/kustomization.yaml",
        lambda content: content.update(
            patches=[*content.get("patches", []), _SMALL_FETCH],
            images=[{"name": "model-server", "newName": image, "newTag": tag}],
        ),
    )
    # Small nodes take several shops at once.
    for model in place.glob("*/slots.yaml"):
        own = model.with_name("kustomization.yaml")
        text = own.read_text(encoding="utf-8")
        own.write_text(re.sub(r"requests: .*", "requests: {cpu: 20m, memory: 128Mi}", text), encoding="utf-8")


def change(path: Path, by: Callable[[dict[str, Any]], object]) -> None:
    """The content of a YAML file, as a person edits it."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    by(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _have_flux_bring_it(work: Workplace, url: str) -> None:
    """As an admin does it once. Flux looks every 10 s, so that whatever it undoes is undone in a rollout."""
    place = work.top / "k8s/environments" / ENVIRONMENT
    flux = list(yaml.safe_load_all((place / "flux.yaml").read_text(encoding="utf-8")))
    for each in flux[:2]:
        each["spec"]["interval"] = "10s"
    flux[0]["spec"]["url"] = url
    kubectl("apply", "-k", str(place / "access"))
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(flux))
