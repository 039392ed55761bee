"""A release on disk, ready to serve: its manifest, its files by digest, its code.

    <folder>/manifest.yaml              as the commit holds it
    <folder>/files/<path>               every file of the manifest, verified
    <folder>/code/pipelines/...         the code at the commit

The folder is named by the manifest's digest and appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from coalmine.errors import IntegrityError
from coalmine.manifest import Manifest, ReleaseFile, manifest_path, parse_manifest
from coalmine.registry.dvc import DvcProject
from coalmine.registry.faults import machine_fault
from coalmine.registry.repository import Repository

CODE = "pipelines"
MANIFEST = "manifest.yaml"
_DIGEST_LENGTH = 12


def materialise(repository: Repository, dvc: DvcProject, model: str, commit: str, into: Path) -> Path:
    """The folder of the release that `commit` holds of `model`, made below `into` if need be.

    Raises:
        NotFound: no manifest at `commit`, or a file that nobody has.
        RemoteUnavailable: a file is not on this machine, and the DVC remote cannot be reached.
        IntegrityError: a file is not what the manifest says.
        MachineUnready: `into` cannot be written.
    """
    path = manifest_path(model)
    text = repository.read(commit, path)
    manifest = parse_manifest(text.decode(), f"{path} at commit {commit[:12]}")
    folder = release_folder(into, hashlib.sha256(text).hexdigest())
    if not folder.is_dir():
        try:
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=into, prefix=f".{folder.name}-") as unfinished:
                whole = Path(unfinished) / folder.name
                whole.mkdir()
                (whole / MANIFEST).write_bytes(text)
                repository.export(commit, [CODE], whole / "code")
                _fetch(dvc, manifest, whole / "files")
                _appear(whole, folder)
        except OSError as error:
            raise machine_fault(error, into) from error
    verify(manifest, folder / "files")
    return folder


def read_released(dvc: DvcProject, file: ReleaseFile) -> bytes:
    """One file of a release, without the others.

    Raises:
        NotFound: nobody has it.
        RemoteUnavailable: it is not on this machine, and the DVC remote cannot be reached.
        IntegrityError: it is not what the manifest says.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "released"
        dvc.fetch(file.md5, place)
        content = place.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise IntegrityError(
            f"{file.path} is not what was released: the manifest says sha256 {file.sha256}. Find out who "
            f"changed the object {file.md5} in the DVC cache and remote; take it away and run again"
        )
    return content


def release_folder(into: Path, digest: str) -> Path:
    """Where `materialise` puts the release whose manifest has the sha256 `digest`."""
    return into / digest[:_DIGEST_LENGTH]


def verify_release(folder: Path, digest: str) -> None:
    """What lies in `folder`, if anything does, is the release of `digest`.

    Raises:
        IntegrityError: names the first file that differs.
        MachineUnready: it cannot be read.
    """
    place = folder / MANIFEST
    if not folder.is_dir():
        return
    try:
        text = place.read_bytes() if place.exists() else b""
    except OSError as error:
        raise machine_fault(error, place) from error
    if hashlib.sha256(text).hexdigest() != digest:
        raise IntegrityError(
            f"{place} is not the manifest of the release {digest[:12]}, and a server started with it would "
            f"serve another one. Find out who changed it; take {folder} away and run again"
        )
    verify(parse_manifest(text.decode(), str(place)), folder / "files")


def _fetch(dvc: DvcProject, manifest: Manifest, files: Path) -> None:
    for file in manifest.all_files:
        target = place_of(file, files)
        target.parent.mkdir(parents=True, exist_ok=True)
        dvc.fetch(file.md5, target)
    verify(manifest, files)


def _appear(whole: Path, folder: Path) -> None:
    """Another process may have made the same folder meanwhile: then that one stays."""
    try:
        os.rename(whole, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(whole)


def verify(manifest: Manifest, files: Path) -> None:
    """
    Raises:
        IntegrityError: names the first file that differs.
    """
    for file in manifest.all_files:
        if not is_as_recorded(file, files):
            place = place_of(file, files)
            raise IntegrityError(
                f"{file.path} of {manifest.model} {manifest.version} is not what was released: its manifest "
                f"says sha256 {file.sha256} ({file.size_bytes} bytes), and there is {_found_at(place)}. It "
                f"will not be served. Find out who changed {place}, or the object {file.md5} in the DVC "
                "cache and remote; take it away and run again"
            )


def is_as_recorded(file: ReleaseFile, files: Path) -> bool:
    place = place_of(file, files)
    try:
        return place.stat().st_size == file.size_bytes and _sha256(place) == file.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise machine_fault(error, place) from error


def place_of(file: ReleaseFile, files: Path) -> Path:
    """
    Raises:
        IntegrityError: a manifest of ours names no file outside of the repository.
    """
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts:
        raise IntegrityError(f"the manifest names a file outside of the repository: {file.path}")
    return files / path


def _found_at(place: Path) -> str:
    return f"{_sha256(place)} ({place.stat().st_size} bytes)" if place.exists() else "nothing"


def _sha256(place: Path) -> str:
    with place.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
