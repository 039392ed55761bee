"""What `coalmine new environment` writes, what it leaves alone, and what it refuses.

Whether Kustomize builds it, and what comes of it, stands in tests/k8s.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.errors import CoalmineError, InputError, SpecError
from coalmine.scaffold import environment as scaffold
from coalmine.scaffold.environment import Remotes, Wanted, Written, new_environment
from coalmine.scaffold.starters.environment import flux_url, pods_reach
from coalmine.scaffold.template import template_files
from coalmine.settings import load_settings
from coalmine.slots import Slots, parse_slots
from coalmine.spec import model_names

SHARED = Remotes("https://git.example.com/team/models.git", "main", "s3://models/dvc")
THIS_MACHINE = Remotes(
    "/home/kim/shop/.coalmine/remotes/git.git", "main", "/home/kim/shop/.coalmine/remotes/dvc"
)
PRODUCTION = Wanted(
    "gateway_api", "flux", namespace="models", host="models.example.com", gateway="gateways/users"
)
FOLDER = Path("k8s/environments/production")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With the example models and coalmine.yaml as `init` writes them."""
    for path, text in template_files().items():
        if path.match("models/*/model.yaml") or path == Path("coalmine.yaml"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
    return tmp_path


def add_model(repository: Path, name: str, serving: str = "") -> None:
    text = (
        (repository / "models/credit-risk/model.yaml")
        .read_text()
        .replace("name: credit-risk", f"name: {name}")
    )
    (repository / f"models/{name}").mkdir()
    (repository / f"models/{name}/model.yaml").write_text(text + serving)


def read(repository: Path, file: str) -> Any:
    return yaml.safe_load((repository / FOLDER / file).read_text())


def contents(repository: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}


# --- what it writes --------------------------------------------------------------------


def test_every_model_gets_a_folder_with_empty_slots(repository: Path) -> None:
    written = new_environment(repository, "production", PRODUCTION, SHARED)

    assert model_names(repository) == ["credit-risk", "flight-delays"]
    for model in model_names(repository):
        slots = parse_slots((repository / FOLDER / model / "slots.yaml").read_text(), "slots.yaml")
        assert slots == Slots(environment="production", model=model)
        assert read(repository, f"{model}/kustomization.yaml")["namePrefix"] == f"{model}-"
    assert read(repository, "kustomization.yaml")["resources"][1:] == ["credit-risk", "flight-delays"]
    assert {repository / path for path in written.paths} >= set((repository / FOLDER).rglob("*.yaml"))


def test_coalmine_yaml_gets_the_environment_beside_everything_that_stands_there(repository: Path) -> None:
    before = (repository / "coalmine.yaml").read_text()

    new_environment(repository, "production", PRODUCTION, SHARED)

    assert (repository / "coalmine.yaml").read_text().startswith(before)
    made = load_settings(repository).environment("production")
    assert made.kubernetes is not None
    assert made.kubernetes.flux is not None
    assert (made.router, made.reconciler, made.telemetry) == ("gateway_api", "flux", "prometheus")
    assert made.address == "models.example.com:80"
    assert made.kubernetes.namespace == "models"
    flux = list(yaml.safe_load_all((repository / FOLDER / "flux.yaml").read_text()))
    assert flux[1]["metadata"]["name"] == made.kubernetes.flux.kustomization
    assert flux[1]["metadata"]["namespace"] == made.kubernetes.flux.namespace


def test_the_namespace_is_the_environments_name_unless_another_is_said(repository: Path) -> None:
    new_environment(repository, "production", Wanted("istio", "apply"), SHARED)
    assert read(repository, "access/namespace.yaml")["metadata"]["name"] == "production"
    assert read(repository, "kustomization.yaml")["namespace"] == "production"
    made = load_settings(repository).environment("production")
    assert made.kubernetes is not None
    assert made.kubernetes.namespace == "production"


def test_replicas_and_resources_come_from_model_yaml(repository: Path) -> None:
    add_model(repository, "large", "\nserving: {replicas: 3, resources: {cpu: 500m, memory: 2Gi}}\n")

    new_environment(repository, "production", PRODUCTION, SHARED)

    place = read(repository, "large/kustomization.yaml")
    assert place["replicas"] == [{"name": "blue", "count": 3}, {"name": "green", "count": 3}]
    (server,) = yaml.safe_load(place["patches"][0]["patch"])["spec"]["template"]["spec"]["containers"]
    assert server["resources"] == {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}


@pytest.mark.parametrize(
    ("router", "said"),
    [
        ("linkerd", {"annotations": {"linkerd.io/inject": "enabled"}}),
        ("appmesh", {"labels": {"appmesh.k8s.aws/sidecarInjectorWebhook": "enabled", "mesh": "CHANGE-ME"}}),
        ("gateway_api", {}),
    ],
)
def test_a_mesh_is_told_to_take_the_pods_in(
    repository: Path, router: str, said: dict[str, dict[str, str]]
) -> None:
    new_environment(repository, "production", Wanted(router, "flux"), SHARED)
    metadata = read(repository, "access/namespace.yaml")["metadata"]
    assert metadata["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for kind, entries in said.items():
        assert entries.items() <= metadata[kind].items()
    assert ("linkerd.io/inject" in metadata.get("annotations", {})) is (router == "linkerd")


def test_flux_is_told_where_the_releases_are_pushed_to(repository: Path) -> None:
    new_environment(
        repository, "production", PRODUCTION, Remotes("git@github.com:team/models.git", "live", None)
    )
    source, kustomization, *_ = yaml.safe_load_all((repository / FOLDER / "flux.yaml").read_text())
    assert source["spec"]["url"] == "ssh://git@github.com/team/models.git"
    assert source["spec"]["ref"] == {"branch": "live"}
    assert kustomization["spec"]["path"] == f"./{FOLDER}"
    assert kustomization["spec"]["sourceRef"]["name"] == source["metadata"]["name"]


def test_without_flux_there_is_no_flux_yaml(repository: Path) -> None:
    written = new_environment(repository, "production", Wanted("gateway_api", "apply"), SHARED)
    assert not (repository / FOLDER / "flux.yaml").exists()
    assert not [line for line in written.next if "flux" in line]
    assert [line for line in written.next if "apply --server-side --field-manager coalmine" in line]


def test_what_only_a_person_knows_is_named_line_by_line(repository: Path) -> None:
    written = new_environment(repository, "production", Wanted("gateway_api", "flux"), THIS_MACHINE)
    marked = {
        f"{path.relative_to(repository)}:{number}"
        for path in (repository / FOLDER).rglob("*.yaml")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if "CHANGE-ME" in line
    }
    # The DVC remote, the Git remote, the Gateway.
    files = {each.rpartition("/")[2].partition(":")[0] for each in marked}
    assert files == {"settings.yaml", "flux.yaml", "kustomization.yaml"}
    assert set(written.unfilled) == marked


def test_where_everything_is_said_nothing_is_left_to_fill_in(repository: Path) -> None:
    assert new_environment(repository, "production", PRODUCTION, SHARED).unfilled == []
    assert read(repository, "settings.yaml")["data"]["DVC_REMOTE"] == SHARED.dvc


@pytest.mark.parametrize(
    ("git", "flux"),
    [
        ("git@github.com:team/models.git", "ssh://git@github.com/team/models.git"),
        ("ssh://git@git.example.com:2222/team/models", "ssh://git@git.example.com:2222/team/models"),
        ("https://git.example.com/team/models", "https://git.example.com/team/models"),
        pytest.param(
            "https://kim:s3cret@git.example.com/models",
            "https://git.example.com/models",
            id="a token stays out",
        ),
        pytest.param("http://127.0.0.1:9000/models.git", None, id="loopback"),
        pytest.param("/srv/git/models.git", None, id="a folder"),
        pytest.param("../models.git", None, id="a folder beside"),
        pytest.param("file:///srv/git/models.git", None, id="a folder as URL"),
        pytest.param("", None, id="no remote"),
    ],
)
def test_a_git_remote_as_flux_takes_it(git: str, flux: str | None) -> None:
    assert flux_url(git) == flux


@pytest.mark.parametrize(
    ("dvc", "reached"),
    [
        ("s3://models/dvc", True),
        ("https://dvc.example.com/models", True),
        ("http://localhost:9000/dvc", False),
        ("/srv/dvc", False),
        ("file:///srv/dvc", False),
    ],
)
def test_a_dvc_remote_of_this_machine_alone_is_not_given_to_pods(dvc: str, reached: bool) -> None:
    assert pods_reach(dvc) is reached


# --- again -----------------------------------------------------------------------------


def test_again_it_changes_nothing(repository: Path) -> None:
    new_environment(repository, "production", PRODUCTION, SHARED)
    before = contents(repository)
    assert new_environment(repository, "production", Wanted(), SHARED).paths == []
    assert new_environment(repository, "production", PRODUCTION, SHARED).paths == []
    assert contents(repository) == before


def test_again_it_adds_the_new_models_and_keeps_what_people_wrote(repository: Path) -> None:
    new_environment(repository, "production", PRODUCTION, SHARED)
    listed = repository / FOLDER / "kustomization.yaml"
    listed.write_text(
        listed.read_text().replace("  - flight-delays\n", "") + "commonAnnotations: {owner: 'us'} # ours\n"
    )
    mine = repository / FOLDER / "credit-risk/kustomization.yaml"
    mine.write_text("# mine\n")
    before = contents(repository)
    add_model(repository, "late-parcels")

    written = new_environment(repository, "production", Wanted(), SHARED)

    assert set(written.paths) == {
        FOLDER / "kustomization.yaml",
        FOLDER / "late-parcels/kustomization.yaml",
        FOLDER / "late-parcels/slots.yaml",
    }
    assert {path: content for path, content in before.items() if path != listed}.items() <= contents(
        repository
    ).items()
    after = listed.read_text().splitlines()
    assert [line for line in before[listed].decode().splitlines() if line not in after] == []
    # A model that somebody took off the list stays off it.
    assert read(repository, "kustomization.yaml")["resources"][1:] == ["credit-risk", "late-parcels"]


@pytest.mark.parametrize("indent", ["", "  "], ids=["dashes below the key", "dashes further in"])
def test_a_list_keeps_its_indentation(repository: Path, indent: str) -> None:
    new_environment(repository, "production", PRODUCTION, SHARED)
    listed = repository / FOLDER / "kustomization.yaml"
    text = f"resources:\n{indent}- settings.yaml\n{indent}- credit-risk # ours\n"
    listed.write_text(text)
    add_model(repository, "late-parcels")
    new_environment(repository, "production", Wanted(), SHARED)
    assert listed.read_text() == f"{text}{indent}- late-parcels\n"


def test_an_entry_that_somebody_wrote_by_hand_gets_its_folder(repository: Path) -> None:
    entry = """
  production:
    reconciler: flux
    router: istio
    telemetry: prometheus
    prometheus: {url: "http://prometheus.example.com"}
    kubernetes: {namespace: scores, flux: {kustomization: scores, namespace: gitops}} # by hand
"""
    settings = (repository / "coalmine.yaml").read_text() + entry
    (repository / "coalmine.yaml").write_text(settings)

    new_environment(
        repository, "production", Wanted(host="models.example.com", gateway="gateways/users"), SHARED
    )

    assert (repository / "coalmine.yaml").read_text() == settings
    _, kustomization, *_ = yaml.safe_load_all((repository / FOLDER / "flux.yaml").read_text())
    assert kustomization["metadata"] == {"name": "scores", "namespace": "gitops"}
    assert read(repository, "kustomization.yaml")["namespace"] == "scores"


@contextmanager
def killed_after(writes: int) -> Iterator[None]:
    """A run that is cut short after so many files and folders."""
    left = [writes]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any) -> Any:
            if isinstance(arguments[1], dict) and len(arguments[1]) > 1:  # one file at a time
                return [write(arguments[0], {path: text}) for path, text in arguments[1].items()]
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return real(*arguments)

        return write

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "add_folder"):
            patch.setattr(scaffold, name, counted(getattr(scaffold, name)))
        with pytest.raises(KeyboardInterrupt):
            yield


def relative(repository: Path) -> dict[Path, bytes]:
    return {path.relative_to(repository): text for path, text in contents(repository).items()}


@pytest.mark.parametrize("writes", range(9))
def test_a_run_that_was_cut_short_is_finished_by_the_next(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, writes: int
) -> None:
    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(repository, whole, dirs_exist_ok=True)
    new_environment(whole, "production", PRODUCTION, SHARED)

    with killed_after(writes):
        new_environment(repository, "production", PRODUCTION, SHARED)
    assert "production" not in load_settings(repository).environments
    new_environment(repository, "production", PRODUCTION, SHARED)

    assert relative(repository) == relative(whole)


@pytest.mark.parametrize("writes", range(3))
def test_new_models_are_added_by_the_next_run_when_one_was_cut_short(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, writes: int
) -> None:
    new_environment(repository, "production", PRODUCTION, SHARED)
    add_model(repository, "late-parcels")
    add_model(repository, "prices")
    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(repository, whole, dirs_exist_ok=True)
    new_environment(whole, "production", Wanted(), SHARED)

    with killed_after(writes):
        new_environment(repository, "production", Wanted(), SHARED)
    new_environment(repository, "production", Wanted(), SHARED)

    assert relative(repository) == relative(whole)


# --- what it refuses -------------------------------------------------------------------


REFUSED = {
    "a name that Kubernetes does not take": ("Live", PRODUCTION, "cannot name an environment"),
    "a name that is taken by this machine": ("local", PRODUCTION, "of this machine"),
    "taken, with another router": (
        "staging",
        Wanted("istio"),
        "not with --router istio but with gateway_api",
    ),
    "taken, elsewhere": ("staging", Wanted(namespace="other"), "--namespace other but with staging"),
    "no reconciler said": ("production", Wanted(router="istio"), "--reconciler"),
    "nothing said": ("production", Wanted(), "--router"),
    "no such router": ("production", Wanted("nginx", "flux"), "router"),
    "a bad namespace": ("production", Wanted("istio", "flux", namespace="A_B"), "namespace"),
    "a URL for a host": ("production", Wanted("istio", "flux", host="http://x"), "no host name"),
    "a bad Gateway": ("production", Wanted("istio", "flux", gateway="a/b/c"), "no Gateway"),
    "a Gateway in a mesh": ("production", Wanted("linkerd", "flux", gateway="a/b"), "neither"),
    "no URL": ("production", Wanted("istio", "flux", prometheus_url="prometheus:9090"), "url"),
}


@pytest.mark.parametrize(("name", "wanted", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(
    repository: Path, name: str, wanted: Wanted, says: str
) -> None:
    new_environment(repository, "staging", Wanted("gateway_api", "flux"), SHARED)
    before = contents(repository)
    with pytest.raises((InputError, SpecError), match=says):
        new_environment(repository, name, wanted, SHARED)
    assert contents(repository) == before


def test_a_model_yaml_that_cannot_be_read_stops_it_before_anything_is_written(repository: Path) -> None:
    (repository / "models/credit-risk/model.yaml").write_text("name: credit-risk\n")
    before = contents(repository)
    with pytest.raises(CoalmineError, match=r"models/credit-risk/model\.yaml"):
        new_environment(repository, "production", PRODUCTION, SHARED)
    assert contents(repository) == before


def test_a_repository_without_models_is_given_its_environment_too(tmp_path: Path) -> None:
    (tmp_path / "coalmine.yaml").write_text("environments: {}\n")
    written: Written = new_environment(tmp_path, "production", PRODUCTION, SHARED)
    assert FOLDER / "kustomization.yaml" in written.paths
    assert read(tmp_path, "kustomization.yaml")["resources"] == ["settings.yaml"]
