"""An environment of a cluster before any cluster is asked: what a slot is given, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coalmine.errors import InputError, SpecError, Unsupported
from coalmine.manifest import dump_manifest, manifest_path
from coalmine.operations.champion import Release
from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.operations.environments import open_environment
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.workspace import Workspace
from coalmine.scaffold.repository import init
from coalmine.settings import load_settings
from coalmine.slots import slots_path
from tests.journals.fake_rollouts import make_manifest

MODEL = "flight-delays"
PRODUCTION = """
  production:
    reconciler: flux
    router: gateway_api
    telemetry: prometheus
    prometheus: {url: http://127.0.0.1:9090}
    kubernetes: {namespace: models, flux: {kustomization: models}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    init(tmp_path / "work", examples=(MODEL,))
    settings = tmp_path / "work/coalmine.yaml"
    settings.write_text(settings.read_text(encoding="utf-8").rstrip() + PRODUCTION, encoding="utf-8")
    return Workspace.open(tmp_path / "work")


def committed(workspace: Workspace, files: dict[Path, str]) -> str:
    for path, text in files.items():
        (workspace.top / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.top / path).write_text(text, encoding="utf-8")
    for words in (("add", "--all"), ("commit", "--quiet", "--message", "As a person does")):
        subprocess.run(["git", *words], cwd=workspace.top, check=True)
    return workspace.repository.head()


def released(workspace: Workspace) -> Release:
    manifest = make_manifest().model_copy(update={"model": MODEL, "code": workspace.repository.head()})
    commit = committed(workspace, {manifest_path(MODEL): dump_manifest(manifest)})
    return Release(manifest, commit)


def test_an_environment_is_this_machine_or_a_cluster(workspace: Workspace) -> None:
    assert isinstance(open_environment(workspace, "local"), LocalEnvironment)
    assert isinstance(open_environment(workspace, "production"), ClusterEnvironment)


def test_nothing_of_a_cluster_is_started_on_this_machine(workspace: Workspace) -> None:
    with pytest.raises(Unsupported, match="production is a cluster"):
        LocalEnvironment(workspace, "production")


def test_whoever_still_routes_by_app_mesh_is_told_that_it_ended(workspace: Workspace) -> None:
    assert open_environment(workspace, "production").warning == ""
    settings = workspace.top / "coalmine.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("router: gateway_api", "router: appmesh"), encoding="utf-8")
    again = Workspace.open(workspace.top)
    assert "ended the support of App Mesh" in open_environment(again, "production").warning


def test_pods_are_given_the_manifest_to_the_letter_and_the_options_of_model_yaml(
    workspace: Workspace,
) -> None:
    wanted = released(workspace)
    committed(workspace, {slots_path("production", MODEL).with_name("kustomization.yaml"): "resources: []\n"})
    release, pod = ClusterEnvironment(workspace, "production").contents(wanted)
    assert (release.version, release.model_digest) == (wanted.manifest.version, wanted.manifest.digest)
    assert pod is not None
    assert (pod.version, pod.digest) == (release.version, release.model_digest)
    assert pod.manifest == dump_manifest(wanted.manifest)
    assert pod.image == "model-server"  # none is published
    assert (pod.timeout_s, pod.queue) == ("2.0", "1024")


def test_a_model_without_a_place_is_refused_with_the_command_that_makes_one(workspace: Workspace) -> None:
    wanted = released(workspace)
    with pytest.raises(InputError, match="coalmine new environment production"):
        ClusterEnvironment(workspace, "production").contents(wanted)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("router: gateway_api", "router: envoy"), "one of the routers"),
        (("    kubernetes: {namespace: models, flux: {kustomization: models}}\n", ""), "needs `kubernetes"),
        (("reconciler: flux", "reconciler: apply"), "`kubernetes.flux` belongs to `reconciler: flux`"),
        ((", flux: {kustomization: models}", ""), "`kubernetes.flux` belongs to `reconciler: flux`"),
        (("    prometheus: {url: http://127.0.0.1:9090}\n", ""), "needs `prometheus"),
        (("reconciler: flux", "reconciler: processes"), "serves on this machine"),
        (("namespace: models", "namespace: My Models"), "namespace"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_when_they_are_read(
    workspace: Workspace, edit: tuple[str, str], said: str
) -> None:
    path = workspace.top / "coalmine.yaml"
    text = path.read_text(encoding="utf-8")
    assert edit[0] in text
    path.write_text(text.replace(*edit), encoding="utf-8")
    with pytest.raises(SpecError, match=said):
        load_settings(workspace.top)
