"""A release out of a repository, into a folder to serve from; and the image that a slot names."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from pathlib import Path

import pytest

from coalmine.operations.workspace import Workspace
from coalmine.registry import images
from tests.scenarios.workplace import MODEL, Workplace
from tests.serving.server_process import running

IMAGE_PYTHON = Path(__file__).with_name("image_python")


def _version(folder: Path) -> str:
    lines = (folder / "manifest.yaml").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("version:"))


def test_a_release_comes_out_of_the_repository_and_serves(work: Workplace, tmp_path: Path) -> None:
    ran = work.run("fetch", MODEL, "--into", str(tmp_path / "newest"), "--json")
    work.run("fetch", MODEL, "--version", "v1.0.0", "--into", str(tmp_path / "first"))

    assert _version(tmp_path / "newest") == ran.json["version"] == "1.2.0"
    assert _version(tmp_path / "first") == "1.0.0"
    manifest = (tmp_path / "newest/manifest.yaml").read_bytes()
    assert ran.json["digest"] == hashlib.sha256(manifest).hexdigest()
    with running(tmp_path / "newest") as server:
        assert f"{MODEL} 1.2.0 serves" in server.announcement


def test_in_the_image_without_git_the_same_bytes_come_from_the_dvc_remote(
    work: Workplace, tmp_path: Path
) -> None:
    work.run("fetch", MODEL, "--into", str(tmp_path / "by-name"))
    digest = hashlib.sha256((tmp_path / "by-name/manifest.yaml").read_bytes()).hexdigest()
    shutil.copy(tmp_path / "by-name/manifest.yaml", tmp_path)
    given = ["--manifest", "manifest.yaml", "--digest", digest, "--code", str(work.top)]
    remote = str(work.top / ".coalmine/remotes/dvc")

    image = Workplace(work.top, {**work.env, "PYTHONPATH": str(IMAGE_PYTHON)})
    image.run("fetch", *given, "--remote", remote, "--into", "by-digest", cwd=tmp_path)

    def files(folder: Path) -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        there = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
        return {name: content for name, content in there.items() if name != ".fetching"}

    assert files(tmp_path / "by-digest") == files(tmp_path / "by-name")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], "nobody has no release"),
        ([MODEL, "--version", "9.9.9"], "There are: 1.0.0, 1.1.0, 1.2.0"),
        ([MODEL, "--digest", "0" * 64], "Name a MODEL"),
        (["--digest", "0" * 64], "Name a MODEL"),
        ([], "Name a MODEL"),
    ],
    ids=["no such model", "no such version", "both ways at once", "half of one way", "neither way"],
)
def test_what_nobody_released_is_refused(
    work: Workplace, tmp_path: Path, words: list[str], said: str
) -> None:
    assert said in work.run("fetch", *words, "--into", str(tmp_path / "release"), status=2).err
    assert not (tmp_path / "release").exists()


def test_a_slot_names_the_image_of_its_release(work: Workplace) -> None:
    repository = Workspace.open(work.top).repository
    code = work.read_yaml(f"models/{MODEL}/manifest.yaml")["code"]
    version = importlib.metadata.version("coalmine")
    published = images.Image(
        contents=images.contents_of(repository, code, version),
        commit=code,
        coalmine=version,
        repository="images.example/shop/server",
        digest=f"sha256:{'d' * 64}",
    )
    (work.top / images.PATH).write_text(images.dump_images((published,)))
    work.commit("An image")
    work.run("deliver", MODEL, "--version", "1.0.0")
    work.run("rollback", MODEL, "--to", "1.1.0")

    slots = work.read_yaml(f"k8s/environments/local/{MODEL}/slots.yaml")
    named = {release["version"]: release["image_digest"] for release in slots["releases"].values()}
    assert named == {"1.0.0": published.digest, "1.1.0": published.digest}
