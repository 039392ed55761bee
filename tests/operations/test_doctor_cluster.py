"""What `coalmine doctor` finds of an environment on a cluster: one thing is wrong, and that one is named.

Before a real cluster: tests/cluster/test_doctor.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coalmine.cli import app
from coalmine.cluster.kinds import GIT_REPOSITORY, HTTP_ROUTE, KUSTOMIZATION, LEASE, POD
from coalmine.cluster.lease import Leases
from coalmine.errors import TelemetryUnavailable
from coalmine.manifest import dump_manifest, manifest_path
from coalmine.operations import doctor_cluster
from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.operations.doctor import examine_environment
from coalmine.operations.doctor_cluster import UNFILLED
from coalmine.operations.findings import Health
from coalmine.operations.workspace import Workspace
from coalmine.registry.images import PATH as IMAGES
from coalmine.registry.images import Image, contents_of, dump_images
from coalmine.registry.tags import release_tag
from coalmine.scaffold.environment import Remotes, Wanted, new_environment
from coalmine.scaffold.repository import init
from coalmine.scaffold.starters.environment import PLACEHOLDER
from coalmine.telemetry.prometheus import Instant
from tests.journals.fake_rollouts import make_manifest
from tests.k8s.environments import builder
from tests.operations.conftest import as_kim
from tests.reconcilers import api_server as simulator
from tests.reconcilers.api_server import ApiServer, api_server
from tests.routers.test_cluster_route import accept

MODEL, NAMESPACE = "flight-delays", "models"
FOLDER = Path("k8s/environments/production")
FLUX = "coalmine-production"
WANTED = Wanted(
    "gateway_api", "flux", namespace=NAMESPACE, host="models.example.com", gateway="gateways/users"
)

Json = dict[str, Any]


@dataclass
class Place:
    """A repository with an environment, and the cluster on which it is well. series: what Prometheus has."""

    workspace: Workspace
    server: ApiServer
    series: list[Instant]

    def missing(self) -> dict[str, str]:
        findings = examine_environment(self.workspace, "production")
        return {each.what: each.detail for each in findings if each.health is Health.MISSING}

    def well(self) -> dict[str, str]:
        findings = examine_environment(self.workspace, "production")
        return {each.what: each.detail for each in findings if each.health is Health.OK}

    def edit(self, file: Path, change: Callable[[str], str]) -> None:
        path = self.workspace.top / file
        before = path.read_text(encoding="utf-8")
        assert change(before) != before
        path.write_text(change(before), encoding="utf-8")

    def flux(self, kind: str) -> Json:
        of = GIT_REPOSITORY if kind == "source" else KUSTOMIZATION
        return self.server.at(of, FLUX, NAMESPACE)


def git(top: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=top, check=True, capture_output=True)


def commit(top: Path, words: str) -> None:
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--allow-empty", "--message", words)
    git(top, "push", "--quiet", "origin", "main")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, released, whose image is recorded; its environment is written and pushed."""
    builder()
    top = tmp_path_factory.mktemp("repository") / "work"
    with pytest.MonkeyPatch.context() as patch:
        as_kim(patch)
        init(top, examples=(MODEL,))
        opened = Workspace.open(top).repository
        code = opened.head()
        manifest = make_manifest().model_copy(update={"model": MODEL, "code": code})
        (top / manifest_path(MODEL)).write_text(dump_manifest(manifest), encoding="utf-8")
        coalmine = manifest.environment.get("coalmine", "")
        image = Image(
            contents=contents_of(opened, code, coalmine),
            commit=code,
            coalmine=coalmine,
            repository="registry.example.com/models",
            digest=f"sha256:{'a' * 64}",
        )
        (top / IMAGES).write_text(dump_images((image,)), encoding="utf-8")
        new_environment(top, "production", WANTED, Remotes("https://git.example.com/m", "main", "s3://m/dvc"))
        commit(top, "A release")
        git(top, "tag", release_tag(MODEL, manifest.version))
    return top


@pytest.fixture
def place(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    shutil.copytree(repository, tmp_path / "work", symlinks=True)
    git(tmp_path / "work", "remote", "set-url", "origin", str(tmp_path / "work/.coalmine/remotes/git.git"))
    workspace = Workspace.open(tmp_path / "work")
    monkeypatch.setattr(type(workspace.dvc), "require_remote", lambda _: "s3://m/dvc")
    with api_server() as server:
        monkeypatch.setattr(ClusterEnvironment, "cluster", property(lambda _: server.cluster(NAMESPACE)))
        made = Place(workspace, server, [])
        monkeypatch.setattr(doctor_cluster, "find_series", lambda _: lambda query: found(made, query))
        fill(server, workspace.repository.head())
        yield made


def found(place: Place, query: str) -> Sequence[Instant]:
    assert f'namespace="{NAMESPACE}"' in query
    return place.series


def fill(server: ApiServer, pushed: str) -> None:
    """The cluster, all of which is well."""
    server.objects[f"/api/v1/namespaces/{NAMESPACE}"] = {"kind": "Namespace", "metadata": {"name": NAMESPACE}}
    metadata = {"name": FLUX, "namespace": NAMESPACE}
    revision = f"main@sha1:{pushed}"
    source = {"url": "https://git.example.com/m", "ref": {"branch": "main"}}
    fetched = {"artifact": {"revision": revision}, "conditions": [condition("True", "Succeeded")]}
    server.put(GIT_REPOSITORY, {"metadata": metadata, "spec": source, "status": fetched})
    builds = {
        "sourceRef": {"kind": "GitRepository", "name": FLUX},
        "path": f"./{FOLDER}",
        "serviceAccountName": "coalmine-reconciler",
    }
    brought = {
        "lastAttemptedRevision": revision,
        "conditions": [condition("True", "ReconciliationSucceeded")],
    }
    server.put(KUSTOMIZATION, {"metadata": metadata, "spec": builds, "status": brought})
    refs = [{"name": f"{MODEL}-{slot}", "port": 80, "weight": 0} for slot in ("blue", "green")]
    route = {
        "metadata": {"name": f"{MODEL}-route", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": "users", "namespace": "gateways"}],
            "rules": [{"backendRefs": refs}],
        },
    }
    accept(server.put(HTTP_ROUTE, route))


def condition(status: str, reason: str, message: str = "") -> Json:
    return {"type": "Ready", "status": status, "reason": reason, "message": message}


def pod(place: Place, name: str) -> None:
    labels = {"app.kubernetes.io/name": MODEL, "coalmine.dev/slot": "blue"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    place.server.put(POD, {"metadata": metadata, "status": {"conditions": [ready]}})


def started(pod: str) -> Instant:
    return Instant({"namespace": NAMESPACE, "pod": pod}, 1.0, 2.0)


# --- all is well -------------------------------------------------------------------------


def test_where_all_is_well_each_line_says_what_is_there(place: Place) -> None:
    assert place.missing() == {}
    well = place.well()
    assert list(well) == [
        str(FOLDER),
        f"image of {MODEL}",
        "DVC remote",
        "API server",
        "namespace",
        "kinds",
        "rights",
        "Flux",
        f"route of {MODEL}",
        "Prometheus",
        "runner",
    ]
    assert well["API server"].startswith("Kubernetes v1.34.1 at http://127.0.0.1:")
    assert well["API server"].endswith("as kim")
    assert well["Flux"].endswith("is applied, as coalmine-reconciler")
    assert well[f"image of {MODEL}"].startswith("registry.example.com/models@sha256:aaaa")
    assert well[f"route of {MODEL}"] == "accepted; it sends nobody anywhere yet"


def test_nothing_is_changed_on_the_cluster(place: Place) -> None:
    place.missing()
    assert place.server.writes() == []


def test_without_flux_nobody_looks_for_it(place: Place) -> None:
    place.edit(
        Path("coalmine.yaml"),
        lambda text: text.replace("reconciler: flux", "reconciler: apply").replace(
            f"      flux:\n        kustomization: {FLUX}\n        namespace: {NAMESPACE}\n", ""
        ),
    )
    place.workspace = Workspace.open(place.workspace.top)
    for kind in (GIT_REPOSITORY, KUSTOMIZATION):
        del place.server.objects[simulator.path_of(kind, FLUX, NAMESPACE)]
    assert place.missing() == {}
    assert "Flux" not in place.well()


def test_this_machine_is_examined_as_before(place: Place) -> None:
    assert [each.what for each in examine_environment(place.workspace, "local")][:3] == [
        "Python",
        "Envoy",
        "disk",
    ]


# --- one thing is not --------------------------------------------------------------------

Break = Callable[[Place], object]


def forbid(resource: str, verb: str) -> Break:
    def change(place: Place) -> None:
        place.server.may = lambda asked: (asked["resource"], asked["verb"]) != (resource, verb)

    return change


def a_condition(kind: str, reason: str, message: str) -> Break:
    def change(place: Place) -> None:
        place.flux(kind)["status"]["conditions"] = [condition("False", reason, message)]

    return change


def in_spec(kind: str, **fields: Any) -> Break:
    return lambda place: place.flux(kind)["spec"].update(fields)


def gone(kind: Any, name: str) -> Break:
    return lambda place: place.server.objects.pop(simulator.path_of(kind, name, NAMESPACE))


def a_route_refused(place: Place) -> None:
    route = place.server.at(HTTP_ROUTE, f"{MODEL}-route", NAMESPACE)
    route["status"]["parents"][0]["conditions"][0] |= {"status": "False", "reason": "NoMatchingParent"}


def a_push_that_flux_has_not_seen(place: Place) -> None:
    commit(place.workspace.top, "Newer")


def an_unscraped_pod(place: Place) -> None:
    for name in ("seen", "unseen"):
        pod(place, name)
    place.series.append(started("seen"))


def a_runner_that_is_gone(place: Place) -> None:
    labels = {"app.kubernetes.io/part-of": "coalmine", "app.kubernetes.io/component": "runner"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coalmine-runner", "labels": labels},
    }
    (place.workspace.top / FOLDER / "runner.yaml").write_text(json.dumps(deployment), encoding="utf-8")
    listed = "  - settings.yaml\n"
    place.edit(FOLDER / "kustomization.yaml", lambda text: text.replace(listed, f"{listed}  - runner.yaml\n"))


def no_image(place: Place) -> None:
    (place.workspace.top / IMAGES).write_text(dump_images(()), encoding="utf-8")
    commit(place.workspace.top, "None is published")
    place.server.objects.clear()
    fill(place.server, place.workspace.repository.head())


def a_blank(place: Place) -> None:
    place.edit(FOLDER / "settings.yaml", lambda text: text.replace("s3://m/dvc", PLACEHOLDER))


BROKEN: dict[str, tuple[Break, str, str]] = {
    "an old cluster": (
        lambda place: setattr(place.server, "version", "v1.29.4"),
        "API server",
        "v1.29.4",
    ),
    "no namespace": (
        lambda place: place.server.objects.pop(f"/api/v1/namespaces/{NAMESPACE}"),
        "namespace",
        f"kubectl apply -k {FOLDER}/access",
    ),
    "a right": (
        forbid("replicasets", "list"),
        "right to list replicasets.apps",
        f"kim may not list replicasets.apps in the namespace {NAMESPACE}. An admin gives it to "
        f"coalmine-runner by kubectl apply -k {FOLDER}/access",
    ),
    "a right to Flux": (
        forbid("kustomizations", "patch"),
        f"right to patch kustomizations.kustomize.toolkit.fluxcd.io {FLUX}",
        f"kubectl apply -f {FOLDER}/flux.yaml",
    ),
    "a right to a part": (
        lambda place: setattr(place.server, "may", lambda asked: asked["subresource"] != "proxy"),
        "right to get pods/proxy",
        "docs/access.md",
    ),
    "suspended": (in_spec("kustomization", suspend=True), "Flux", f"flux resume kustomization {FLUX}"),
    "a source suspended": (in_spec("source", suspend=True), "Flux", f"flux resume source git {FLUX}"),
    "another branch": (in_spec("source", ref={"branch": "live"}), "Flux", "follows the branch live"),
    "another folder": (in_spec("kustomization", path="./k8s/base"), "Flux", f"and not {FOLDER}"),
    "no Kustomization": (gone(KUSTOMIZATION, FLUX), "Flux", f"There is no Kustomization {FLUX}"),
    "no source": (
        gone(GIT_REPOSITORY, FLUX),
        "Flux",
        f"{NAMESPACE}/{FLUX}, and there is none",
    ),
    "nothing fetched": (
        a_condition("source", "GitOperationFailed", "authentication required"),
        "Flux",
        "It may not read there: name a Secret",
    ),
    "not applied": (
        a_condition("kustomization", "ReconciliationFailed", "services is forbidden"),
        "Flux",
        "services is forbidden",
    ),
    "stale": (a_push_that_flux_has_not_seen, "Flux", "coalmine pushed"),
    "no route": (gone(HTTP_ROUTE, f"{MODEL}-route"), f"route of {MODEL}", "is not there"),
    "a route refused": (a_route_refused, f"route of {MODEL}", "is refused"),
    "an unscraped pod": (an_unscraped_pod, "Prometheus", "has nothing of unseen in models"),
    "a runner that is gone": (a_runner_that_is_gone, "runner", "nobody renews the Lease coalmine-runner"),
    "no image": (no_image, f"image of {MODEL}", "coalmine image build --push"),
    "a blank in what an admin applies": (
        lambda place: place.edit(
            FOLDER / "flux.yaml", lambda text: text.replace("https://git.example.com/m", PLACEHOLDER)
        ),
        str(FOLDER),
        f"GitRepository {FLUX}",
    ),
    "a blank": (a_blank, str(FOLDER), f"{UNFILLED} stands yet in ConfigMap coalmine"),
}


@pytest.mark.parametrize(("broken", "what", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_named_with_its_remedy_and_nothing_else_is(
    place: Place, monkeypatch: pytest.MonkeyPatch, broken: Break, what: str, words: str
) -> None:
    monkeypatch.setattr("coalmine.routers.cluster_route.TAKEN_UP_WITHIN_S", 0.1)
    broken(place)
    missing = place.missing()
    assert list(missing) == [what]
    assert words in missing[what]


def test_a_kind_is_named_with_the_versions_that_are_served_instead(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "/apis/gateway.networking.k8s.io"
    older = {path: kinds for path, kinds in simulator.RESOURCES.items() if not path.startswith(group)}
    monkeypatch.setattr(simulator, "RESOURCES", {**older, f"{group}/v1beta1": {"HTTPRoute": "httproutes"}})
    words = place.missing()["kinds"]
    assert "HTTPRoute of gateway.networking.k8s.io/v1 (of that group it serves v1beta1)" in words
    monkeypatch.setattr(simulator, "RESOURCES", older)
    assert "HTTPRoute of gateway.networking.k8s.io/v1 (nor its group)" in place.missing()["kinds"]


def test_of_a_cluster_that_does_not_answer_nothing_more_is_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = ApiServer(port=9)
    monkeypatch.setattr(ClusterEnvironment, "cluster", property(lambda _: away.cluster(NAMESPACE)))
    missing = place.missing()
    assert list(missing) == ["API server"]
    assert "does not answer" in missing["API server"]


def test_whoever_may_not_look_at_namespaces_is_not_told_that_it_is_gone(place: Place) -> None:
    place.server.broken[f"/api/v1/namespaces/{NAMESPACE}"] = (403, "namespaces is forbidden")
    assert place.missing() == {}
    assert "only whoever may look at namespaces" in place.well()["namespace"]


def test_an_environment_from_before_there_were_accounts_is_told_the_command(place: Place) -> None:
    shutil.rmtree(place.workspace.top / FOLDER / "access")
    place.edit(FOLDER / "flux.yaml", lambda text: "---\n".join(text.split("---\n")[:2]))
    missing = place.missing()
    assert list(missing) == ["rights"]
    assert "coalmine new environment production" in missing["rights"]


def test_an_environment_that_was_never_written_is_told_the_command(place: Place) -> None:
    shutil.rmtree(place.workspace.top / FOLDER)
    assert "coalmine new environment production" in place.missing()[str(FOLDER)]


def test_flux_that_applies_with_its_own_rights_is_said_so(place: Place) -> None:
    del place.flux("kustomization")["spec"]["serviceAccountName"]
    assert place.well()["Flux"].endswith("with the rights of Flux itself")


def test_pods_that_are_scraped_are_counted(place: Place) -> None:
    pod(place, "seen")
    place.series.append(started("seen"))
    assert place.well()["Prometheus"] == "it has the counts of 1 pods"


def test_a_prometheus_that_is_away_is_quoted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_query: str) -> Sequence[Instant]:
        raise TelemetryUnavailable("Prometheus at http://127.0.0.1:9 cannot be reached")

    monkeypatch.setattr(doctor_cluster, "find_series", lambda _: away)
    assert place.missing() == {"Prometheus": "Prometheus at http://127.0.0.1:9 cannot be reached"}


def test_a_runner_that_lives_is_said_so(place: Place) -> None:
    cluster = place.server.cluster(NAMESPACE)
    body: Json = {"metadata": {"name": "coalmine-runner", "namespace": NAMESPACE}}
    place.server.put(LEASE, Leases(cluster).renewed(body, "host/1/a-runner/x"))
    assert place.well()["runner"] == "alive"


def test_an_image_that_a_person_names_is_as_good(place: Place) -> None:
    no_image(place)
    named = "\nimages:\n  - {name: model-server, newName: registry.example.com/ours, newTag: v7}\n"
    place.edit(FOLDER / "every_model/kustomization.yaml", lambda text: text + named)
    assert place.missing() == {}
    assert place.well()[f"image of {MODEL}"].startswith("registry.example.com/ours:v7")


# --- the command -------------------------------------------------------------------------


def test_the_command_prints_a_line_for_each_and_ends_as_the_doctor_of_a_machine_does(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.workspace.top)
    run = CliRunner().invoke
    assert run(app, ["doctor", "-e", "production"]).exit_code == 0
    place.flux("kustomization")["spec"]["suspend"] = True
    ran = run(app, ["doctor", "-e", "production"])
    assert ran.exit_code == 2
    assert "missing  Flux: " in ran.output
    as_json = run(app, ["doctor", "-e", "production", "--json"])
    assert as_json.exit_code == 2
    assert {each["what"] for each in json.loads(as_json.output) if each["health"] == "missing"} == {"Flux"}
