"""A release on disk is what was released, whole, or it is not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import IntegrityError, MachineUnready, NotFound
from coalmine.manifest import (
    DatasetVersion,
    Example,
    Manifest,
    Outcome,
    ReleaseDecision,
    ReleaseFile,
    Trigger,
    dump_manifest,
)
from coalmine.registry.dvc import DvcProject
from coalmine.registry.releases import materialise
from coalmine.registry.repository import Repository
from coalmine.spec import Task

DVCFILE = Path("models/delay/dvc.yaml")
MODEL = Path("models/delay/model.skops")


def _manifest(content: bytes, path: str = str(MODEL)) -> Manifest:
    return Manifest(
        model="delay",
        version="1.0.0",
        parent=None,
        task=Task.BINARY,
        files=(
            ReleaseFile(
                path=path,
                sha256=hashlib.sha256(content).hexdigest(),
                md5=hashlib.md5(content).hexdigest(),
                size_bytes=len(content),
            ),
        ),
        inputs=(),
        outputs=(),
        example=Example(inputs={}, outputs={}),
        trusted_types=(),
        dataset=DatasetVersion(name="flights", md5="0.dir", train=(), test=(), train_rows=1, test_rows=1),
        code="0" * 40,
        estimator={},
        decision=ReleaseDecision(outcome=Outcome.RELEASE, reasons=(), champion=None, metrics={}),
        environment={},
        created="2026-01-01T00:00:00Z",
        trigger=Trigger(kind="person", who="Ada"),
    )


@pytest.fixture
def released(project: Any) -> Any:
    """A trained model, its manifest and its code in Git, its file on the DVC remote."""
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)
    dvc.push([DVCFILE])
    project.write("pipelines/transformers.py", "released = True\n")
    project.write("models/delay/manifest.yaml", dump_manifest(_manifest((project.top / MODEL).read_bytes())))
    project.git("add", "-A")
    project.git("commit", "-qm", "Release")
    project.git("push", "-q")
    return project


def _materialise(clone: Any, into: Path) -> Path:
    return materialise(clone.repository, DvcProject(clone.top), "delay", clone.git("rev-parse", "HEAD"), into)


def test_a_release_holds_manifest_files_and_code_of_its_commit(released: Any, tmp_path: Path) -> None:
    commit = released.git("rev-parse", "HEAD")
    released.write("pipelines/transformers.py", "released = 'edited since'\n")
    released.write(str(MODEL), "trained since")

    folder = materialise(
        released.repository, DvcProject(released.top), "delay", commit, tmp_path / "releases"
    )

    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"manifest.yaml", "files/models/delay/model.skops", "code/pipelines/transformers.py"}
    assert (folder / "manifest.yaml").read_bytes() == released.repository.read(
        commit, "models/delay/manifest.yaml"
    )
    assert (folder / "files" / MODEL).read_text() == "model of 1\n"
    assert (folder / "code/pipelines/transformers.py").read_text() == "released = True\n"
    assert folder.name == _manifest(b"model of 1\n").digest[:12]


def test_a_clone_without_the_file_takes_it_from_the_remote(
    released: Any, new_clone: Callable[[str], Any], tmp_path: Path
) -> None:
    folder = _materialise(new_clone("other"), tmp_path / "releases")

    assert (folder / "manifest.yaml").read_text() == (released.top / "models/delay/manifest.yaml").read_text()
    assert (folder / "files" / MODEL).read_text() == "model of 1\n"


def test_the_second_time_nothing_is_fetched(released: Any, tmp_path: Path) -> None:
    folder = _materialise(released, tmp_path / "releases")
    shutil.rmtree(released.top / ".dvc/cache")
    shutil.rmtree(tmp_path / "store")

    assert _materialise(released, tmp_path / "releases") == folder


def _tamper(path: Path) -> None:
    path.chmod(0o644)
    path.write_text("another model")


def test_a_tampered_object_never_becomes_a_release(released: Any, tmp_path: Path) -> None:
    md5 = hashlib.md5(b"model of 1\n").hexdigest()
    _tamper(released.top / ".dvc/cache/files/md5" / md5[:2] / md5[2:])

    with pytest.raises(IntegrityError, match=r"model\.skops of delay 1\.0\.0 is not what was released"):
        _materialise(released, tmp_path / "releases")
    assert list((tmp_path / "releases").iterdir()) == []


def test_a_release_that_was_tampered_with_on_disk_is_refused(released: Any, tmp_path: Path) -> None:
    _tamper(_materialise(released, tmp_path / "releases") / "files" / MODEL)

    with pytest.raises(IntegrityError, match="will not be served"):
        _materialise(released, tmp_path / "releases")


@pytest.mark.parametrize("path", ["/etc/passwd", "models/../../outside"])
def test_a_manifest_that_names_a_file_outside_is_refused(released: Any, tmp_path: Path, path: str) -> None:
    released.write("models/delay/manifest.yaml", dump_manifest(_manifest(b"model of 1\n", path)))
    released.git("commit", "-qam", "evil")

    with pytest.raises(IntegrityError, match="outside"):
        _materialise(released, tmp_path / "releases")


def test_a_commit_without_a_manifest_has_no_release(released: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"models/other/manifest\.yaml"):
        materialise(
            released.repository,
            DvcProject(released.top),
            "other",
            released.git("rev-parse", "HEAD"),
            tmp_path,
        )


def test_callers_at_the_same_time_get_the_same_whole_folder(released: Any, tmp_path: Path) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                folder = _materialise(released, tmp_path / "releases")
                status = 0 if (folder / "files" / MODEL).read_text() == "model of 1\n" else 1
            finally:
                os._exit(status)
        children.append(child)

    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(list((tmp_path / "releases").iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_the_machines_fault(released: Any, tmp_path: Path) -> None:
    (tmp_path / "releases").touch()

    with pytest.raises(MachineUnready, match="releases"):
        _materialise(released, tmp_path / "releases")
    assert Repository.open(released.top).head()
