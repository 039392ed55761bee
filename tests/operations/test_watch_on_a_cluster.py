"""What is not as Git says on a cluster: real Git and Kustomize, and an API server in memory."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from coalmine.cluster.client import ClusterRefuses
from coalmine.cluster.kinds import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    GIT_REPOSITORY,
    HTTP_ROUTE,
    KUSTOMIZATION,
    POD,
)
from coalmine.cluster.kinds import (
    Kind as ObjectKind,
)
from coalmine.drift import alerts
from coalmine.drift.findings import Kind
from coalmine.errors import TelemetryUnavailable
from coalmine.manifest import Trigger, dump_manifest, manifest_path
from coalmine.operations import cluster_environment, heal
from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.operations.watch import Looked, Watch
from coalmine.operations.workspace import Workspace
from coalmine.reconcilers.kustomize import build
from coalmine.registry.commits import Change, Tag, publish
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers import hands
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.scaffold.environment import Remotes, Wanted, new_environment
from coalmine.scaffold.repository import init
from coalmine.slots import Slot, SlotPod, SlotRelease, Slots, dump_slots, slots_path
from tests.journals.fake_rollouts import make_manifest
from tests.needs import needs_kustomize
from tests.simulators.api_server import StateClient, StateServer
from tests.simulators.brought import applied_by_flux, brought

Json = dict[str, Any]

pytestmark = needs_kustomize

MODEL, ENVIRONMENT, NAMESPACE = "flight-delays", "production", "shop"
KIM = Trigger(kind="person", who="Kim <kim@example.org>", proof="claimed")
FLUX = f"coalmine-{ENVIRONMENT}"


class Client(StateClient):
    """May not try a Deployment out."""

    def apply(self, *_: Any, **__: Any) -> Json:
        raise ClusterRefuses("may not patch")


@dataclass
class Place:
    workspace: Workspace
    server: StateServer
    client: StateClient

    @cached_property
    def watch(self) -> Watch:
        return Watch(self.workspace, ENVIRONMENT, [MODEL], KIM, lambda _: None)

    def look(self) -> Looked:
        return self.watch.look()

    def kinds(self) -> list[Kind]:
        return [each.finding.kind for each in self.look().findings]

    def change(self, kind: ObjectKind, name: str, edit: Callable[[Json], Any]) -> Json:
        """As another hand does."""
        body = copy.deepcopy(self.server.objects[kind.kind, name])
        edit(body)
        return self.server.store(kind, body)

    def commit(self) -> str:
        return self.workspace.repository.head()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Kim")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "kim@example.org")
    top = tmp_path / "work"
    init(top, examples=(MODEL,))
    wanted = Wanted(
        router="gateway_api",
        reconciler="flux",
        namespace=NAMESPACE,
        host="models.example.com",
        gateway="gateways/users",
    )
    new_environment(top, ENVIRONMENT, wanted, Remotes("https://git.example.com/m.git", "main", "s3://m/dvc"))
    workspace = Workspace.open(top)
    for words in (("add", "--all"), ("commit", "--quiet", "--message", "A cluster"), ("push", "--quiet")):
        subprocess.run(["git", *words], cwd=top, check=True)
    deliver(workspace)
    made = Place(workspace, StateServer(), Client(StateServer()))
    made.client = Client(made.server)
    bring(made)
    monkeypatch.setattr(ClusterEnvironment, "cluster", made.client)
    monkeypatch.setattr(type(workspace.dvc), "absent", lambda *_: set())

    def away(_: object) -> Any:
        def find(_: str) -> Any:
            raise TelemetryUnavailable("away")

        return find

    monkeypatch.setattr(cluster_environment, "find_series", away)
    return made


def deliver(workspace: Workspace) -> None:
    """1.0.0 and then 1.1.0, which serves from green."""
    slots = Slots(environment=ENVIRONMENT, model=MODEL)
    for version in ("1.0.0", "1.1.0"):
        manifest = make_manifest(version).model_copy(update={"model": MODEL})
        text = dump_manifest(manifest)
        (workspace.top / manifest_path(MODEL)).write_text(text, encoding="utf-8")
        change = Change((manifest_path(MODEL),), version, tags=(Tag(f"{MODEL}@v{version}", version),))
        commit = publish(workspace.repository, change, "origin", "main")
        release = SlotRelease(version=version, commit=commit, model_digest=manifest.digest)
        pod = SlotPod(
            version=version,
            digest=manifest.digest,
            image=f"registry.example.com/m@sha256:{'5' * 64}",
            manifest=text,
            timeout_s="2.0",
            queue="1024",
        )
        slots = slots.with_candidate(release, pod).with_promotion()
    put(workspace, slots)


def put(workspace: Workspace, slots: Slots) -> None:
    path = slots_path(ENVIRONMENT, MODEL)
    (workspace.top / path).parent.mkdir(parents=True, exist_ok=True)
    (workspace.top / path).write_text(dump_slots(slots), encoding="utf-8")
    publish(workspace.repository, Change((path,), "Slots"), "origin", "main")


def bring(place: Place) -> None:
    objects = build(place.workspace.top, Path("k8s/environments") / ENVIRONMENT, "here")
    brought(place.server, objects, NAMESPACE)
    flux(place)


def flux(place: Place, commit: str | None = None) -> None:
    applied_by_flux(place.server, ENVIRONMENT, NAMESPACE, commit or place.commit())


def container(body: Json) -> Json:
    found: Json = body["spec"]["template"]["spec"]["containers"][0]
    return found


def scaled(body: Json, number: int) -> None:
    body["spec"]["replicas"] = number
    body["status"] |= dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), number)


def moved(body: Json) -> None:
    body["spec"] = GATEWAY_API.with_split(body, MODEL, TrafficSplit.canary(Slot.BLUE, 40))["spec"]


def held(body: Json) -> None:
    split = hands.as_text(TrafficSplit.all_to(Slot.GREEN))
    body["metadata"] = hands.with_memory(body, hands.Memory(split))["metadata"]


def rewritten(body: Json) -> None:
    body["spec"]["rules"] = body["spec"]["rules"][:1]


def owned(body: Json) -> None:
    body["metadata"]["ownerReferences"] = [{"kind": "Canary", "name": MODEL, "controller": True}]


GREEN = f"{MODEL}-green"
HANDS: dict[str, tuple[Kind, Callable[[Place], Any], str]] = {
    "replicas": (
        Kind.REPLICAS,
        lambda place: place.change(DEPLOYMENT, GREEN, lambda body: scaled(body, 7)),
        "7",
    ),
    "an image": (
        Kind.IMAGE,
        lambda place: place.change(
            DEPLOYMENT, GREEN, lambda body: container(body).update(image="mine:latest")
        ),
        "mine:latest",
    ),
    "an option": (
        Kind.CONFIGURATION,
        lambda place: place.change(
            DEPLOYMENT, GREEN, lambda body: container(body)["env"][1].update(value="900")
        ),
        "900",
    ),
    "a manifest": (
        Kind.CONFIGURATION,
        lambda place: place.change(
            CONFIG_MAP, GREEN, lambda body: body["data"].update({"manifest.yaml": "mine"})
        ),
        "mine",
    ),
    "a Deployment taken away": (
        Kind.SERVER_DOWN,
        lambda place: place.server.remove(DEPLOYMENT, f"{MODEL}-blue"),
        "nothing",
    ),
    "a pod with another release": (
        Kind.OTHER_RELEASE,
        lambda place: place.change(POD, f"{GREEN}-pod", serving_another_release),
        "release f",
    ),
    "weights": (Kind.ROUTE_WEIGHTS, lambda place: place.change(HTTP_ROUTE, f"{MODEL}-route", moved), "40 %"),
    "a route taken away": (
        Kind.ROUTE_MISSING,
        lambda place: place.server.remove(HTTP_ROUTE, f"{MODEL}-route"),
        "no HTTPRoute",
    ),
    "a route rewritten": (
        Kind.ROUTE_FOREIGN,
        lambda place: place.change(HTTP_ROUTE, f"{MODEL}-route", rewritten),
        "no split",
    ),
    "a route of another controller": (
        Kind.ROUTE_FOREIGN,
        lambda place: place.change(HTTP_ROUTE, f"{MODEL}-route", owned),
        "belongs to Canary",
    ),
    "a route never given back": (
        Kind.ROUTE_HELD,
        lambda place: place.change(HTTP_ROUTE, f"{MODEL}-route", held),
        "never gave back",
    ),
    "Flux suspended": (
        Kind.FLUX_SUSPENDED,
        lambda place: place.change(KUSTOMIZATION, FLUX, lambda body: body["spec"].update(suspend=True)),
        "is suspended",
    ),
    "Flux on another branch": (
        Kind.FLUX_ELSEWHERE,
        lambda place: place.change(
            GIT_REPOSITORY, FLUX, lambda body: body["spec"].update(ref={"branch": "dev"})
        ),
        "the branch dev",
    ),
    "Flux taken away": (
        Kind.FLUX_STOPPED,
        lambda place: place.server.remove(KUSTOMIZATION, FLUX),
        "There is no Kustomization",
    ),
    "Flux behind": (
        Kind.FLUX_STALE,
        lambda place: flux(place, place.workspace.repository.git("rev-parse", "HEAD~1")),
        "coalmine pushed",
    ),
}


def test_each_hand_on_a_cluster_is_found_in_one_look_and_over_once_it_is_taken_back(place: Place) -> None:
    assert place.kinds() == []
    before = copy.deepcopy(place.server.objects)
    for name, (kind, hand, says) in HANDS.items():
        hand(place)
        found = place.look().findings
        assert [each.finding.kind for each in found] == [kind], (name, [str(each.finding) for each in found])
        assert says in found[0].finding.seen, name
        kept = place.server.objects.get(("ConfigMap", "coalmine-watch"))
        place.server.objects = copy.deepcopy(before)
        if kept is not None:
            place.server.objects["ConfigMap", "coalmine-watch"] = kept
        assert place.kinds() == [], name


def test_replicas_that_an_autoscaler_owns_are_no_finding_and_nor_is_another_spelling(place: Place) -> None:
    def spelled(body: Json) -> None:
        scaled(body, 4)
        resources = container(body)["resources"]["requests"]
        resources["cpu"] = {"250m": "0.25", "1": "1000m"}[resources["cpu"]]
        container(body)["terminationMessagePath"] = "/dev/termination-log"

    place.change(DEPLOYMENT, GREEN, spelled)
    assert place.kinds() == [Kind.REPLICAS]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": GREEN}
    place.server.store(AUTOSCALER, {"metadata": {"name": GREEN}, "spec": {"scaleTargetRef": target}})
    assert place.kinds() == []


def test_what_other_machines_pushed_is_what_counts_and_the_clone_that_lags_is_a_finding(place: Place) -> None:
    top, commit = place.workspace.top, place.commit()
    slots = slots_path(ENVIRONMENT, MODEL)
    (top / slots).write_text((top / slots).read_text().replace("stable: green", "stable: blue"))
    subprocess.run(["git", "commit", "--quiet", "--all", "--message", "Elsewhere"], cwd=top, check=True)
    subprocess.run(["git", "push", "--quiet"], cwd=top, check=True)
    pushed = place.commit()
    subprocess.run(["git", "reset", "--quiet", "--hard", commit], cwd=top, check=True)
    flux(place, pushed)
    assert set(place.kinds()) == {Kind.CLONE_BEHIND, Kind.ROUTE_WEIGHTS}


def test_what_no_heal_has_mended_is_not_called_mended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "HEALS_AFTER_S", 0.0)
    monkeypatch.setattr(heal, "restore", lambda *_: None)
    healing = Watch(place.workspace, ENVIRONMENT, [MODEL], KIM, lambda _: None, heals=True)
    place.change(POD, f"{GREEN}-pod", serving_another_release)
    healing.look()
    (tried,) = healing.look().healed
    assert (tried.finding.kind, tried.is_done) == (Kind.OTHER_RELEASE, False)
    assert tried.said.endswith("and it is there still")


def serving_another_release(pod: Json) -> None:
    pod["metadata"]["annotations"]["coalmine.dev/digest"] = "f"


def test_a_cluster_that_does_not_answer_is_unreadable_and_nothing_has_ended(place: Place) -> None:
    place.change(HTTP_ROUTE, f"{MODEL}-route", moved)
    assert place.kinds() == [Kind.ROUTE_WEIGHTS]
    place.client.before = lambda _, name: _away(name)
    looked = place.look()
    assert {each.finding.kind for each in looked.findings} == {Kind.UNREADABLE}
    assert looked.exit_code == 4
    place.client.before = None
    (found,) = place.look().findings
    assert found.finding.kind is Kind.ROUTE_WEIGHTS
    assert found.since_s < looked.at_s


def _away(name: str) -> None:
    if name != "coalmine-watch":
        raise TelemetryUnavailable("the API server does not answer")
