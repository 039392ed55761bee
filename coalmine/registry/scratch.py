"""A clone apart to build in: the files of one commit, a DVC cache of its own, the same DVC remote.

What it is made from stays as it is: no branch, file, cache or setting there is touched.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coalmine.errors import NotFound
from coalmine.registry.faults import machine_fault
from coalmine.registry.repository import Repository

PREFIX = "coalmine-scratch-"  # of the temporary folder's name
_CLONE = "code"


@contextmanager
def scratch_clone(repository: Repository, commit: str, *, keep: bool = False) -> Iterator[Path]:
    """The top of a clone at `commit`, in a new temporary folder that only this user reads.

    The folder goes when the block is left, however it is left, unless `keep`.

    Raises:
        NotFound: this clone has no such commit.
        MachineUnready: the temporary folder cannot be written.
    """
    if repository.try_git("cat-file", "-e", f"{commit}^{{commit}}").status != 0:
        raise NotFound(
            f"{repository.top} does not hold the commit {commit[:12]}. In a shallow clone take the rest: "
            "git fetch --unshallow"
        )
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    except OSError as error:
        raise machine_fault(error, tempfile.gettempdir()) from error
    try:
        top = folder / _CLONE
        # `--shared`: the objects stay where they are, and are only read.
        repository.git("clone", "--quiet", "--shared", "--no-checkout", str(repository.top), str(top))
        Repository.open(top).git("checkout", "--quiet", "--detach", commit)
        _set_up_dvc(repository.top, top, folder)
        yield top
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def is_clone_of(repository: Repository, folder: Path) -> bool:
    """Whether `folder` holds a clone that `scratch_clone` made of `repository`, and this user may read it."""
    try:
        objects = (folder / _CLONE / ".git/objects/info/alternates").read_text(encoding="utf-8").strip()
        return Path(objects).samefile(repository.git_dir / "objects")
    except OSError:
        return False


def _set_up_dvc(origin: Path, top: Path, folder: Path) -> None:
    """The remotes as `origin` reaches them now; all that DVC keeps on a machine, in `folder`."""
    from dvc.repo import Repo

    with Repo(str(origin)) as repo:
        levels = [repo.config.load_one(level) for level in ("repo", "local")]
    with Repo(str(top)) as repo, repo.config.edit("local") as local:
        for level in levels:
            for name, remote in level["remote"].items():
                local["remote"].setdefault(name, {}).update(remote)
            if "remote" in level["core"]:
                local["core"]["remote"] = level["core"]["remote"]
        local["core"]["site_cache_dir"] = str(folder / "dvc-site")
        local["cache"]["dir"] = str(folder / "dvc-cache")
