"""A release into a folder of the caller's, such as a pod's volume, ready to serve.

    <into>/manifest.yaml, files/, code/     as `releases` has them

The folder may be a mount, which nothing can be renamed onto: what is fetched gathers beside, and
moves in with the manifest last. A folder without manifest.yaml is therefore no release, and a
server refuses it. Killed anywhere and run again, it goes on; whole files are not fetched twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coalmine.durable import replace_bytes
from coalmine.errors import InputError, MachineUnready, NotFound
from coalmine.manifest import Manifest, ReleaseFile, parse_manifest
from coalmine.registry.faults import machine_fault
from coalmine.registry.locks import exclusive
from coalmine.registry.releases import CODE, MANIFEST, is_as_recorded, place_of, verify

_LOCK = ".fetching"
_UNFINISHED = ".unfinished-"
_OTHERS = {_LOCK, "lost+found"}  # what an empty volume may hold


@dataclass(frozen=True)
class Source:
    """Where a release comes from.

    manifest: its bytes, which its digest is of. code: a folder that holds pipelines/.
    fetch: puts one file at a path; it may fail, or be killed, with half of it there.
    """

    manifest: bytes
    code: Path
    fetch: Callable[[ReleaseFile, Path], None]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()


def fetch_release(source: Source, into: Path) -> Manifest:
    """The release of `source` in `into`, whole and verified; where it stands already, only verified.

    Raises:
        InputError: `into` holds another release, or something else.
        NotFound: no code at `source.code`, or a file that nobody has.
        RemoteUnavailable: safe to repeat.
        IntegrityError: a file is not what the manifest says.
        MachineUnready: `into` cannot be written, or is too small.
        AlreadyRunning: another process fetches into the same folder.
    """
    manifest = parse_manifest(source.manifest.decode(errors="replace"), f"the manifest {source.digest}")
    if not (source.code / CODE).is_dir():
        raise NotFound(f"{source.code} holds no {CODE}/: it is not the code of a release")
    with exclusive(into / _LOCK, f"Fetching into {into}", "coalmine fetch"):
        try:
            unfinished = into / f"{_UNFINISHED}{source.digest}"
            _move_in(unfinished, into)
            if not _holds(source, into):
                _gather(source, manifest, unfinished)
                _move_in(unfinished, into)
            shutil.rmtree(unfinished, ignore_errors=True)
        except OSError as error:
            raise machine_fault(error, into) from error
    verify(manifest, into / "files")
    return manifest


def _holds(source: Source, into: Path) -> bool:
    """Whether the release is there.

    Raises:
        InputError: something else is.
    """
    there = {path.name for path in into.iterdir()} - _OTHERS
    if MANIFEST in there:
        if (into / MANIFEST).read_bytes() == source.manifest:
            return True
        raise InputError(f"{into} holds another release. Name an empty or a new folder")
    others = sorted(name for name in there if not name.startswith(_UNFINISHED))
    if others:
        raise InputError(
            f"{into} is not empty: it holds {', '.join(others[:5])}. Name an empty or a new folder"
        )
    return False


def _gather(source: Source, manifest: Manifest, unfinished: Path) -> None:
    """All of the release in `unfinished`; its manifest last, which says that the rest is whole."""
    for other in unfinished.parent.glob(f"{_UNFINISHED}*"):
        if other != unfinished:
            shutil.rmtree(other)
    unfinished.mkdir(exist_ok=True)
    files = unfinished / "files"
    absent = [file for file in manifest.all_files if not is_as_recorded(file, files)]
    _require_space(absent, unfinished)
    files.mkdir(exist_ok=True)
    for file in absent:
        place = place_of(file, files)
        place.parent.mkdir(parents=True, exist_ok=True)
        source.fetch(file, place)
    verify(manifest, files)
    shutil.rmtree(unfinished / "code", ignore_errors=True)
    shutil.copytree(source.code / CODE, unfinished / "code" / CODE, copy_function=shutil.copyfile)
    replace_bytes(unfinished / MANIFEST, source.manifest)


def _require_space(files: list[ReleaseFile], folder: Path) -> None:
    """
    Raises:
        MachineUnready: said before the first byte, and with the size that is needed.
    """
    needed, free = sum(file.size_bytes for file in files), shutil.disk_usage(folder).free
    if needed > free:
        raise MachineUnready(
            f"{folder.parent} has {free / 1e6:.1f} MB left, and the release needs {needed / 1e6:.1f} MB: "
            "give it more room (in a pod: the volume's size limit) and run again"
        )


def _move_in(unfinished: Path, into: Path) -> None:
    """Only what is whole moves, which its manifest says; killed in between, the next call goes on."""
    if not (unfinished / MANIFEST).is_file():
        return
    for name in ("files", "code", MANIFEST):
        if (unfinished / name).exists():
            os.rename(unfinished / name, into / name)
