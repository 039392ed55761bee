"""A release in a folder, for a model server to start from: out of Git, or by digest without Git.

In a repository, Git names the release and its code. In a pod there is no Git: its first step is
given the manifest, the digest that Git records of it, the DVC remote's address, and the image's
own copy of the code. Both end in the same folder: `python -m coalmine.serving --release DIR`.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from coalmine.errors import InputError, IntegrityError, NotFound
from coalmine.manifest import Manifest, ReleaseFile
from coalmine.operations.champion import newest, release
from coalmine.operations.workspace import Workspace
from coalmine.registry.faults import machine_fault
from coalmine.registry.fetching import Source, fetch_release
from coalmine.registry.releases import MANIFEST, materialise
from coalmine.registry.remote import Remote


@dataclass(frozen=True)
class Fetched:
    """digest: of the manifest. bytes: of the files; the code comes on top."""

    model: str
    version: str
    digest: str
    bytes: int
    folder: Path


def fetch_version(workspace: Workspace, model: str, version: str | None, into: Path) -> Fetched:
    """A release that Git names, its files from this machine's DVC cache or the DVC remote.

    version: default: the newest release.

    Raises:
        NotFound: no such release, or a file that nobody has.
        InputError: `into` is not empty.
        RemoteUnavailable, IntegrityError, MachineUnready: as `fetch_release` says.
    """
    if version is None:
        wanted = newest(workspace.repository, model)
        if wanted is None:
            raise NotFound(f"{model} has no release yet. Make one: coalmine retrain {model}")
    else:
        wanted = release(workspace.repository, model, version.removeprefix("v"))
    there = materialise(
        workspace.repository, workspace.dvc, model, wanted.commit, workspace.releases_folder(model)
    )

    def copy(file: ReleaseFile, place: Path) -> None:
        shutil.copyfile(there / "files" / file.path, place)

    return _fetched(Source((there / MANIFEST).read_bytes(), there / "code", copy), into)


def fetch_digest(manifest: Path, digest: str, remote: str, code: Path, into: Path) -> Fetched:
    """The release whose manifest has the sha256 `digest`, its files from the DVC remote at `remote`.

    code: a folder that holds the pipelines/ of the release, such as the image's.

    Raises:
        InputError: `digest` is none, or `into` is not empty.
        NotFound: no manifest or code at these places, or an object that the remote does not have.
        IntegrityError: the manifest, or a file, is not what the digest stands for.
        RemoteUnavailable, Unsupported, MachineUnready: as `Remote` and `fetch_release` say.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise InputError(f"`{digest}` is no sha256: 64 hexadecimal digits, as `model_digest` in slots.yaml")
    objects = Remote(remote)
    source = Source(_read(manifest), code, fetch=lambda file, place: objects.fetch(file.md5, place))
    if source.digest != digest:
        raise IntegrityError(
            f"{manifest} is not the manifest of release {digest}: its own sha256 is {source.digest}. "
            "Nothing was fetched. Give the manifest of that release, byte for byte as Git holds it"
        )
    return _fetched(source, into)


def _fetched(source: Source, into: Path) -> Fetched:
    manifest: Manifest = fetch_release(source, into)
    size = sum(file.size_bytes for file in manifest.all_files)
    return Fetched(manifest.model, manifest.version, source.digest, size, into)


def _read(manifest: Path) -> bytes:
    try:
        return manifest.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"There is no manifest at {manifest}") from error
    except OSError as error:
        raise machine_fault(error, manifest) from error
