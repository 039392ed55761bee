"""The image's command, in a real repository, with a stand-in for the tool that builds."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.errors import (
    InputError,
    MachineUnready,
    NotFound,
    RemoteUnavailable,
    RepositoryUnready,
    Unavailable,
)
from coalmine.manifest import DatasetVersion, Example, Manifest, Outcome, ReleaseDecision, Trigger
from coalmine.operations.image import build_image
from coalmine.operations.workspace import Workspace
from coalmine.registry.images import PIPELINES, image_for
from coalmine.scaffold.repository import init
from coalmine.spec import Task

NAME = "images.example/shop/server"
DIGEST = f"sha256:{'d' * 64}"

# Notes its words, keeps what it was given to build, and answers as the real ones do.
STAND_IN = r"""#!/bin/sh
for word; do case $word in
  type=local,dest=*)  # a look into the image
    [ -e "@folder@/closed" ] && { echo "no such image" >&2; exit 125; }
    to=${word#type=local,dest=}; mkdir -p "$to"; cp "@folder@/printed" "$to/printed"
    while [ $# -gt 0 ]; do [ "$1" = --iidfile ] && printf 'sha256:%064d' 2 > "$2"; shift; done
    exit 0 ;;
esac; done
[ "$1" = rmi ] && exit 0
printf '%s\n' "$(basename "$0") $*" >> "@folder@/words"
case $1 in
  version) exit @works@ ;;
  build)
    for last; do :; done
    cp -r "$last" "@folder@/context"
    echo "a tool's chatter"
    while [ $# -gt 0 ]; do [ "$1" = --iidfile ] && printf 'sha256:%064d' 1 > "$2"; shift; done ;;
  push)
    [ -e "@folder@/away" ] && { echo "no such host" >&2; exit 125; }
    while [ $# -gt 0 ]; do [ "$1" = --digestfile ] && printf '@digest@' > "$2"; shift; done ;;
  image) echo "elsewhere/other@sha256:0"; echo "@name@@@digest@" ;;
esac
exit 0
"""


INSIDE = {
    "python": "3.11.9",
    "system": {"id": "debian", "version": "12"},
    "distributions": [
        {
            "name": "ruamel.yaml",
            "version": "0.18.6",
            "path": "/opt/coalmine/lib/python3.11/site-packages/ruamel.yaml-0.18.6.dist-info",
            "licence": None,
            "licences": ["MIT License"],
        }
    ],
    "packages": [{"name": "libc6", "version": "2.36-9+deb12u13", "architecture": "amd64"}],
}


class Tools:
    """Programs on the path, ahead of this machine's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for program in ("docker", "podman", "buildah"):
            self.install(program, works=False)

    def install(self, program: str, *, works: bool = True, digest: str = DIGEST) -> None:
        text = STAND_IN.replace("@folder@", str(self.folder)).replace("@works@", "0" if works else "1")
        path = self.folder / program
        path.write_text(text.replace("@digest@", digest).replace("@name@", NAME))
        path.chmod(0o755)

    @property
    def words(self) -> list[str]:
        """What was asked, but for which version."""
        file = self.folder / "words"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if not line.endswith(" version")]

    @property
    def context(self) -> Path:
        return self.folder / "context"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "printed").write_text(json.dumps(INSIDE))
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return Tools(folder)


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    init(tmp_path / "Shop", examples=())
    return Workspace.open(tmp_path / "Shop")


def _build(workspace: Workspace, **options: Any) -> Any:
    return build_image(workspace, lambda _: None, **options)


def _git(workspace: Workspace, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=workspace.top, capture_output=True, text=True, check=True
    ).stdout.strip()


def _commit(workspace: Workspace, path: str, text: str) -> str:
    (workspace.top / path).write_text(text)
    _git(workspace, "add", path)
    _git(workspace, "commit", "-qm", path)
    return _git(workspace, "rev-parse", "HEAD")


def _release(code: str, coalmine: str = "0.1.0") -> Manifest:
    return Manifest(
        model="delay",
        version="1.0.0",
        parent=None,
        task=Task.BINARY,
        files=(),
        inputs=(),
        outputs=(),
        example=Example(inputs={}, outputs={}),
        trusted_types=(),
        dataset=DatasetVersion(name="flights", md5="0.dir", train=(), test=(), train_rows=1, test_rows=1),
        code=code,
        estimator={},
        decision=ReleaseDecision(outcome=Outcome.RELEASE, reasons=(), champion=None, metrics={}),
        environment={"coalmine": coalmine},
        created="2026-01-01T00:00:00Z",
        trigger=Trigger(kind="person", who="Ada"),
    )


# --- building --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (["docker", "podman", "buildah"], "docker"),
        (["podman", "buildah"], "podman"),
        (["buildah"], "buildah"),
    ],
    ids=["docker first", "a docker without engine is passed over", "buildah alone"],
)
def test_the_first_tool_that_works_builds(
    tools: Tools, shop: Workspace, there: list[str], chosen: str
) -> None:
    for program in there:
        tools.install(program)

    built = _build(shop)

    commit = _git(shop, "rev-parse", "HEAD")
    assert built.reference == f"shop:{commit}"
    assert built.digest == f"sha256:{1:064d}"
    (asked,) = tools.words
    assert asked.startswith(f"{chosen} build --iidfile ")
    assert f"--tag shop:{commit} " in asked
    assert f"--build-arg REVISION={commit} " in asked


@pytest.mark.usefixtures("tools")
def test_without_a_tool_it_says_what_each_one_lacks(shop: Workspace) -> None:
    with pytest.raises(MachineUnready, match=r"docker: .*podman: .*buildah: .*Install one"):
        _build(shop)


def test_what_is_built_is_the_commit_and_the_coalmine_that_runs(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    (shop.top / "README.md").write_text("changed, and no part of the image")

    _build(shop)

    top = {path.name for path in tools.context.iterdir()}
    assert top == {
        "Dockerfile",
        "requirements-serving.lock",
        "requirements-serving.txt",
        "pipelines",
        "wheels",
    }
    (wheel,) = (tools.context / "wheels").iterdir()
    assert f"--build-arg COALMINE=wheels/{wheel.name} " in tools.words[0]
    assert "coalmine/serving/__main__.py" in zipfile.ZipFile(wheel).namelist()


def test_options_of_the_tool_are_passed_on(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")

    _build(shop, options=["--network", "host"])

    assert " --network host /" in tools.words[0]


@pytest.mark.parametrize("path", ["pipelines/transformers.py", "Dockerfile", "requirements-serving.txt"])
def test_a_change_in_no_commit_is_refused(tools: Tools, shop: Workspace, path: str) -> None:
    tools.install("buildah")
    (shop.top / path).write_text("# edited\n")

    with pytest.raises(RepositoryUnready, match=path):
        _build(shop)
    assert tools.words == []


def test_a_repository_without_a_dockerfile_says_where_to_get_one(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    _git(shop, "rm", "-q", "Dockerfile")
    _git(shop, "commit", "-qm", "No image")

    with pytest.raises(NotFound, match="has no Dockerfile"):
        _build(shop)


def test_a_build_that_fails_ends_with_the_machines_status(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    path = tools.folder / "buildah"
    path.write_text(path.read_text().replace("  build)\n", "  build) exit 7 ;;\n  nothing)\n"))

    with pytest.raises(MachineUnready, match="buildah could not build"):
        _build(shop)


def test_the_command_prints_reference_and_digest_and_the_tools_words_apart(
    tools: Tools, shop: Workspace
) -> None:
    tools.install("buildah")

    done = subprocess.run(
        [sys.executable, "-m", "coalmine.cli", "image", "build", "--json", "--", "--no-cache"],
        cwd=shop.top,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reference"] == f"shop:{_git(shop, 'rev-parse', 'HEAD')}"
    assert "a tool's chatter" in done.stderr
    assert " --no-cache /" in tools.words[0]


# --- publishing ------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["docker", "podman", "buildah"])
def test_a_published_image_is_recorded_in_git_by_digest(tools: Tools, shop: Workspace, program: str) -> None:
    tools.install(program)
    commit = _git(shop, "rev-parse", "HEAD")

    built = _build(shop, tag=NAME, push=True)

    assert (built.reference, built.digest, built.published) == (f"{NAME}:{commit}", DIGEST, True)
    assert _git(shop, "show", "--format=", "--name-only").split() == [
        "k8s/images.yaml",
        "k8s/sbom/model-server.cdx.json",
    ]
    assert _git(shop, "log", "-1", "--format=%(trailers:key=Image,valueonly)").strip() == f"{NAME}@{DIGEST}"
    assert _git(shop, "ls-remote", "origin", "main").split()[0] == _git(shop, "rev-parse", "HEAD")
    (image,) = yaml.safe_load((shop.top / "k8s/images.yaml").read_text())["images"]
    assert (image["commit"], image["repository"], image["digest"]) == (commit, NAME, DIGEST)


def test_a_push_without_a_name_is_refused(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")

    with pytest.raises(InputError, match="--tag"):
        _build(shop, push=True)


def test_a_registry_that_is_away_is_worth_another_try(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    (tools.folder / "away").touch()
    with pytest.raises(Unavailable, match="could not push"):
        _build(shop, tag=NAME, push=True)
    assert not (shop.top / "k8s/images.yaml").exists()
    (tools.folder / "away").unlink()
    (tools.folder / "context").rename(tools.folder / "before")

    assert _build(shop, tag=NAME, push=True).digest == DIGEST


def test_published_again_nothing_is_recorded_twice(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    _build(shop, tag=NAME, push=True)
    recorded = _git(shop, "rev-parse", "HEAD")
    (tools.folder / "context").rename(tools.folder / "before")

    _build(shop, tag=NAME, push=True)

    assert _git(shop, "rev-parse", "HEAD") == recorded


@pytest.mark.parametrize("from_an_index", [True, False], ids=["from an index", "from a checkout"])
def test_a_record_that_did_not_reach_the_git_remote_is_pushed_by_the_next_run(
    tools: Tools, shop: Workspace, monkeypatch: pytest.MonkeyPatch, from_an_index: bool
) -> None:
    if from_an_index:
        monkeypatch.setattr("coalmine.operations.image._origin", lambda: None)
    tools.install("buildah")
    remote = shop.top / ".coalmine/remotes/git.git"
    remote.rename(remote.with_name("away.git"))
    with pytest.raises(RemoteUnavailable):
        _build(shop, tag=NAME, push=True)
    remote.with_name("away.git").rename(remote)
    (tools.folder / "context").rename(tools.folder / "before")

    _build(shop, tag=NAME, push=True)

    head = _git(shop, "rev-parse", "HEAD")
    assert _git(shop, "ls-remote", "origin", "main").split()[0] == head
    assert _git(shop, "rev-list", "--count", "HEAD") == "2"


def test_an_image_that_has_changed_replaces_the_record_of_the_same_contents(
    tools: Tools, shop: Workspace
) -> None:
    """Where coalmine runs from a checkout, the same version may be another program."""
    tools.install("buildah")
    _build(shop, tag=NAME, push=True)
    tools.install("buildah", digest=f"sha256:{'e' * 64}")
    (tools.folder / "context").rename(tools.folder / "before")

    _build(shop, tag=NAME, push=True)

    (image,) = yaml.safe_load((shop.top / "k8s/images.yaml").read_text())["images"]
    assert image["digest"] == f"sha256:{'e' * 64}"


def test_an_image_is_named_by_the_commit_that_changed_what_it_ships(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    code = _commit(shop, "pipelines/transformers.py", "changed = True\n")
    _commit(shop, "data.txt", "new rows")

    assert _build(shop).commit == code


def test_a_coalmine_from_an_index_is_named_and_its_image_is_built_once(
    tools: Tools, shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coalmine.operations.image._origin", lambda: None)
    tools.install("buildah")
    first = _build(shop, tag=NAME, push=True)
    assert "--build-arg COALMINE=coalmine==0.1.0 " in tools.words[0]

    again = _build(shop, tag=NAME, push=True)

    assert (again.digest, again.commit) == (first.digest, first.commit)
    assert [words.split()[1] for words in tools.words] == ["build", "push"]


# --- its bill of materials -------------------------------------------------------------


def test_what_is_in_a_published_image_is_recorded_with_it(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")

    _build(shop, tag=NAME, push=True)

    text = (shop.top / "k8s/sbom/model-server.cdx.json").read_text()
    sbom = json.loads(text)
    assert sbom["metadata"]["component"]["name"] == NAME
    assert sbom["metadata"]["component"]["version"] == DIGEST
    assert {each["name"] for each in sbom["components"]} == {"python", "ruamel.yaml", "libc6"}
    (image,) = yaml.safe_load((shop.top / "k8s/images.yaml").read_text())["images"]
    assert image["sbom"] == hashlib.sha256(text.encode()).hexdigest()


def test_an_image_that_cannot_be_looked_into_is_not_published(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    (tools.folder / "closed").touch()

    with pytest.raises(MachineUnready, match="could not look into it"):
        _build(shop, tag=NAME, push=True)
    assert [words.split()[1] for words in tools.words] == ["build"]


@pytest.mark.parametrize(
    ("base", "told"),
    [("python:3.11-slim-bookworm", True), (f"python:3.11-slim-bookworm@sha256:{'a' * 64}", False)],
    ids=["by name", "by digest"],
)
def test_a_base_that_may_change_under_its_name_is_told(
    tools: Tools, shop: Workspace, base: str, told: bool
) -> None:
    tools.install("buildah")
    text = re.sub(r"^ARG BASE=.*$", f"ARG BASE={base}", (shop.top / "Dockerfile").read_text(), flags=re.M)
    _commit(shop, "Dockerfile", f"{text}# edited\n")
    said: list[str] = []

    build_image(shop, said.append, tag=NAME, push=True)

    assert any("write its digest there" in sentence for sentence in said) is told


# --- what trains -----------------------------------------------------------------------


@pytest.fixture
def with_pipelines(shop: Workspace) -> Workspace:
    for path in PIPELINES.shipped:
        _commit(shop, path, f"# {path}\n")
    return shop


def test_the_image_that_trains_is_built_from_its_own_files(tools: Tools, with_pipelines: Workspace) -> None:
    tools.install("buildah")

    built = _build(with_pipelines, kind=PIPELINES)

    assert {path.name for path in tools.context.iterdir()} == {*PIPELINES.shipped, "wheels"}
    assert "/Dockerfile.pipelines " in tools.words[0]
    assert built.reference == f"shop-pipelines:{_git(with_pipelines, 'rev-parse', 'HEAD')}"


def test_the_image_that_trains_is_recorded_beside_and_serves_no_release(
    tools: Tools, with_pipelines: Workspace
) -> None:
    tools.install("buildah")
    code = _git(with_pipelines, "rev-parse", "HEAD")
    _build(with_pipelines, tag=NAME, push=True)
    (tools.folder / "context").rename(tools.folder / "before")
    tools.install("buildah", digest=f"sha256:{'e' * 64}")

    _build(with_pipelines, kind=PIPELINES, tag="images.example/shop/pipelines", push=True)

    recorded = yaml.safe_load((with_pipelines.top / "k8s/images.yaml").read_text())["images"]
    assert [(image["kind"], image["digest"]) for image in recorded] == [
        ("model-server", DIGEST),
        ("pipelines", f"sha256:{'e' * 64}"),
    ]
    assert {path.name for path in (with_pipelines.top / "k8s/sbom").iterdir()} == {
        "model-server.cdx.json",
        "pipelines.cdx.json",
    }
    found = image_for(with_pipelines.repository, _release(code))
    assert found is not None
    assert found.digest == DIGEST


def test_an_older_record_without_kind_and_bill_is_a_model_servers(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    code = _git(shop, "rev-parse", "HEAD")
    _build(shop, tag=NAME, push=True)
    path = shop.top / "k8s/images.yaml"
    content = yaml.safe_load(path.read_text())
    for key in ("kind", "sbom"):
        del content["images"][0][key]
    _commit(shop, "k8s/images.yaml", yaml.safe_dump(content))

    found = image_for(shop.repository, _release(code))

    assert found is not None
    assert (found.kind, found.sbom) == ("model-server", None)


# --- which image serves a release ------------------------------------------------------


def test_a_release_is_served_by_the_image_of_its_code(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    code = _git(shop, "rev-parse", "HEAD")
    assert image_for(shop.repository, _release(code)) is None
    _build(shop, tag=NAME, push=True)

    found = image_for(shop.repository, _release(code))

    assert found is not None
    assert found.digest == DIGEST


@pytest.mark.parametrize(
    ("path", "text", "fits"),
    [
        ("data.txt", "new rows", True),
        ("coalmine.yaml", "environments: {}\n", True),
        ("pipelines/transformers.py", "changed = True\n", False),
        ("requirements-serving.lock", "", False),
        ("requirements-serving.txt", "lightgbm\n", False),
        ("Dockerfile", "FROM scratch\n", False),
    ],
)
def test_an_image_fits_every_commit_that_would_ship_the_same(
    tools: Tools, shop: Workspace, path: str, text: str, fits: bool
) -> None:
    tools.install("buildah")
    _build(shop, tag=NAME, push=True)
    later = _commit(shop, path, text)

    assert (image_for(shop.repository, _release(later)) is not None) is fits


def test_of_two_images_that_fit_the_newest_serves(tools: Tools, shop: Workspace) -> None:
    """Such as one in another registry, to which the team has moved."""
    tools.install("buildah")
    code = _git(shop, "rev-parse", "HEAD")
    for name in (NAME, "images.example/moved/server"):
        _build(shop, tag=name, push=True)
        (tools.folder / "context").rename(tools.folder / f"of-{name.replace('/', '-')}")

    found = image_for(shop.repository, _release(code))

    assert found is not None
    assert found.repository == "images.example/moved/server"


def test_an_image_of_another_coalmine_does_not_fit(tools: Tools, shop: Workspace) -> None:
    tools.install("buildah")
    code = _git(shop, "rev-parse", "HEAD")
    _build(shop, tag=NAME, push=True)

    assert image_for(shop.repository, _release(code, coalmine="9.0.0")) is None
