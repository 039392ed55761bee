"""What lies on this machine, is used by nobody, and can be made again from Git and the DVC remote.

    releases    unpacked to be served or compared with; not those in a slot, nor the newest
    journals    of rollouts whose evidence is in Git, on the remote's branch; not a model's newest
    runs        what DVC remembers of stages whose outputs nothing needs any more
    clones      that a killed `coalmine reproduce` left in the temporary folder

What is deleted first leaves its place, whole: a kill leaves nothing half there for anybody to take up.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coalmine.audit.record import closing_commit
from coalmine.journals import journal
from coalmine.operations.champion import champion, newest
from coalmine.operations.workspace import Workspace
from coalmine.registry.faults import machine_fault
from coalmine.registry.named_objects import digests_in
from coalmine.registry.releases import release_folder
from coalmine.registry.scratch import PREFIX, is_clone_of
from coalmine.registry.upstream import Upstream
from coalmine.settings import STATE
from coalmine.spec import model_names


class Kind(StrEnum):
    RELEASE = "releases unpacked here"
    JOURNAL = "journals of rollouts that Git has the evidence of"
    RUN = "runs that DVC remembers"
    CLONE = "clones that were built in"
    UNFINISHED = "deletions that were not finished"


@dataclass(frozen=True)
class Leftover:
    kind: Kind
    path: Path
    size_bytes: int


def leftovers(workspace: Workspace, runs: Path, needed: Set[str], before_s: float) -> list[Leftover]:
    """
    runs: the folder where DVC remembers them. needed: digests of the objects that stay. before_s: seconds
        since 1970; what was touched later is left alone.

    Raises:
        MachineUnready: a folder cannot be read.
    """

    def is_old(path: Path) -> bool:
        return _touched_s(path) < before_s

    try:
        return [
            Leftover(kind, path, _size(path))
            for kind, paths in (
                (Kind.UNFINISHED, _waiting(workspace.top).glob("*")),
                (Kind.RELEASE, filter(is_old, _releases(workspace))),
                (Kind.JOURNAL, _journals(workspace, is_old)),
                (Kind.RUN, filter(is_old, _runs(runs, needed))),
                (Kind.CLONE, filter(is_old, _clones(workspace))),
            )
            for path in paths
        ]
    except OSError as error:
        raise machine_fault(error, workspace.top / STATE) from error


def delete(top: Path, leftover: Leftover) -> None:
    """
    Raises:
        MachineUnready: it cannot be deleted.
    """
    path = leftover.path
    try:
        if leftover.kind in (Kind.RELEASE, Kind.JOURNAL):
            _waiting(top).mkdir(exist_ok=True)
            path = path.rename(_waiting(top) / f"{path.parent.name}-{path.name}")
        elif leftover.kind is Kind.CLONE and not path.name.startswith("."):
            path = path.rename(path.with_name(f".{path.name}"))
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise machine_fault(error, path) from error


def _waiting(top: Path) -> Path:
    return top / STATE / "deleting"


# --- which -----------------------------------------------------------------------------


def _releases(workspace: Workspace) -> Iterator[Path]:
    """Each could be made again; those in use, or soon, are not worth the wait."""
    state = workspace.top / STATE
    text = _in_use(workspace)
    for folder in (state / "releases").glob("*/*"):
        unfinished = folder.name.startswith(".")
        if unfinished or folder.name not in text:
            yield folder


def _in_use(workspace: Workspace) -> str:
    """All that says which releases this machine may serve or compare with."""
    top, repository = workspace.top, workspace.repository
    told = [
        *(top / "k8s" / "environments").glob("*/*/slots.yaml"),
        *(top / STATE / "rollouts").glob("*/*/rollback.json"),
        *(path for path in (top / STATE / "local").rglob("*.json") if path.is_file()),
    ]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in told]
    for model in model_names(top):
        kept = (champion(repository, model), newest(repository, model))
        texts += [
            release_folder(Path(), release.manifest.digest).name for release in kept if release is not None
        ]
    return "\n".join(texts)


def _journals(workspace: Workspace, is_old: Callable[[Path], bool]) -> Iterator[Path]:
    git = workspace.settings.git
    upstream = Upstream(workspace.repository, git.remote, git.branch)
    for model in (workspace.top / STATE / "rollouts").glob("*/*/"):
        for folder in filter(is_old, journal.rollouts(workspace.top, model.parent.name, model.name)[:-1]):
            closing = closing_commit(workspace.repository, journal.read_about(folder))
            if closing is not None and upstream.has(closing.sha) and journal.has_ended(folder):
                yield folder


def _runs(runs: Path, needed: Set[str]) -> Iterator[Path]:
    for run in runs.glob("*/*/*"):
        if not digests_in(run.read_text(encoding="utf-8", errors="replace")) <= needed:
            yield run


def _clones(workspace: Workspace) -> Iterator[Path]:
    for folder in Path(tempfile.gettempdir()).glob(f"*{PREFIX}*"):
        if folder.name.removeprefix(".").startswith(PREFIX) and is_clone_of(workspace.repository, folder):
            yield folder


# --- on the disk -----------------------------------------------------------------------


def _touched_s(path: Path) -> float:
    """When anything directly in the folder, or the file, was last written."""
    inside = list(path.iterdir()) if path.is_dir() else []
    return max(each.lstat().st_mtime for each in [path, *inside])


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in _files(path))


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return (path,)
    return (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
