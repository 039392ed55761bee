"""DVC: reproduce a model's stages, track partitions, exchange files with the DVC remote.

Each call looks at the one dvc.yaml or .dvc file that it is given. DVC's own commands first
collect every such file of the repository, which takes seconds where there are a thousand models.
Records in Git are not made here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from coalmine.errors import (
    AlreadyRunning,
    CoalmineError,
    IntegrityError,
    NotFound,
    RemoteUnavailable,
    RepositoryUnready,
)
from coalmine.registry.dvc_locks import forget_ended, held_by
from coalmine.registry.dvc_transfer import transfer_objects
from coalmine.registry.faults import (
    is_machine_fault,
    machine_fault,
    without_credentials,
)
from coalmine.registry.object_stores import ObjectStore
from coalmine.registry.stage_runs import OnLine, run_apart

# DVC is imported within functions: it takes more than half a second, and most commands need none of it.
if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

ANSWERS_WITHIN_S = 10.0
_PIECE = 1 << 20  # bytes of an object that are held in memory


@dataclass(frozen=True)
class StageRun:
    """ran: its command ran; otherwise nothing had changed, or DVC took the result from its cache."""

    name: str
    ran: bool


@dataclass(frozen=True)
class StageChange:
    """What a stage depends on and that is not as its lock says.

    path: the file that Git has of it, from the top: of a tracked folder its pointer, of a command that
        changed the dvc.yaml.
    keys: those of the YAML file at `path` that changed, where the stage depends on single ones.
    """

    stage: str
    path: Path
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stores:
    """runs: the folder in which DVC remembers what its stages made of what, to save running them again."""

    remote: ObjectStore
    cache: ObjectStore
    runs: Path


class DvcProject:
    """The DVC side of the repository at `top`. Opening it does nothing yet."""

    def __init__(self, top: Path) -> None:
        self.top = top.absolute()

    # --- stages ------------------------------------------------------------------------

    def reproduce(
        self,
        dvcfile: Path,
        stage: str | None = None,
        on_line: OnLine = lambda _: None,
        python: Path = Path(sys.executable),
    ) -> list[StageRun]:
        """Run those stages of `dvcfile` that have changed, in its order, or only `stage`.

        What `dvc repro -s` does, to the byte. on_line: called with each line that is printed. python: what
        the stages run with.

        Raises:
            CoalmineError: a stage failed; the type is the one that its exit status stands for, and
                the message ends with the last lines that it printed.
            AlreadyRunning: another DVC command is at work on the same files.
        """
        with self._locked() as repo:
            stages = self._stages(repo, dvcfile, stage)
            names = [found.name for found in stages]
            if not any(found.changed() for found in stages):
                return [StageRun(name, ran=False) for name in names]
        target = dvcfile.as_posix() if stage is None else f"{dvcfile.as_posix()}:{stage}"
        ran = run_apart(self.top, target, on_line, python)
        return [StageRun(name, ran=name in ran) for name in names]

    def outs(self, dvcfile: Path) -> dict[Path, str]:
        """What the stages of `dvcfile` made last: path from the top to DVC's md5, as its lock says."""
        with self._open() as repo:
            outs = [out for stage in self._stages(repo, dvcfile) for out in stage.outs]
            return {
                Path(os.path.relpath(out.fs_path, self.top)): out.hash_info.value
                for out in outs
                if out.hash_info
            }

    def changes(self, dvcfile: Path) -> tuple[StageChange, ...]:
        """Why the stages of `dvcfile` would run: what changed since its lock, in the order of the stages.

        As DVC compares, by content; but of a tracked folder the digest that its pointer has in Git is
        compared, and what the stages make themselves is not: so no data need be here. What another pipeline
        makes is left out where it is not here.
        """
        with self._open() as repo:
            stages = self._stages(repo, dvcfile)
            made = {out.fs_path for stage in stages for out in stage.outs}
            return tuple(
                change
                for stage in stages
                for change in self._stage_changes(stage, dvcfile)
                if str(self.top / change.path) not in made
            )

    def _stage_changes(self, stage: Any, dvcfile: Path) -> Iterator[StageChange]:
        if stage.frozen:
            return
        if stage.changed_stage():
            yield StageChange(stage.name, dvcfile)
        for dep in stage.deps:
            path = Path(os.path.relpath(dep.fs_path, self.top))
            pointer = path.with_name(f"{path.name}.dvc")
            if not dep.hash_info:
                yield StageChange(stage.name, dvcfile)  # added to the stage since its lock
            elif (self.top / pointer).is_file():
                if dep.hash_info.value != self.dataset_digest(path):
                    yield StageChange(stage.name, pointer)
            elif (found := dep.status().get(str(dep))) and found != "deleted":
                yield StageChange(stage.name, path, tuple(found) if isinstance(found, dict) else ())

    # --- datasets ----------------------------------------------------------------------

    def add_partitions(self, folder: Path, names: Iterable[str]) -> str:
        """Track the files `names` of `folder`, new or changed; return the folder's digest.

        The other files are neither read nor touched, and need not be here. Called again, nothing
        happens. What grows with their number is the folder's listing, one line for each.

        Raises:
            NotFound: no such file, or nobody has the listing that `<folder>.dvc` names.
            AlreadyRunning: another DVC command is at work on the folder.
        """
        from dvc.rwlock import rwlock

        with self._locked() as repo, repo.scm_context(quiet=True):
            out = self._folder(repo, folder)
            hardlink = repo.config["core"].get("hardlink_lock", False)
            who = " ".join(sys.argv)
            with rwlock(repo.tmp_dir, repo.fs, who, read=[], write=[out.fs_path], hardlink=hardlink):
                return _add_files(out, sorted(names), folder)

    def dataset_digest(self, folder: Path) -> str:
        """DVC's md5 of the tracked `folder`, as `<folder>.dvc` says.

        Raises:
            NotFound: it is not tracked yet.
        """
        pointer = folder.with_name(f"{folder.name}.dvc")
        try:
            return str(yaml.safe_load((self.top / pointer).read_text(encoding="utf-8"))["outs"][0]["md5"])
        except FileNotFoundError as error:
            raise NotFound(f"{folder} is not tracked yet: {pointer} does not exist. Ingest first") from error
        except (yaml.YAMLError, KeyError, TypeError, IndexError) as error:
            raise IntegrityError(
                f"{pointer} is written by DVC and cannot be read. Take the last good one back: "
                f"git checkout HEAD -- {pointer}"
            ) from error

    def listing(self, folder: Path) -> dict[str, str]:
        """The files of the tracked `folder`, as `<folder>.dvc` records them: name to DVC's md5.

        Raises:
            NotFound: nobody has the listing that it names.
        """
        with self._open() as repo:
            listed = _listing(self._folder(repo, folder))
            return {"/".join(name): digest.value for name, _, digest in listed}

    def _folder(self, repo: Repo, folder: Path) -> Output:
        path = self.top / folder
        pointer = path.with_name(f"{path.name}.dvc")
        if pointer.is_file():
            stage = repo.stage.load_one(str(pointer))
        else:
            stage = repo.stage.create(
                single_stage=True, validate=False, fname=str(pointer), wdir=str(path.parent), outs=[path.name]
            )
        return stage.outs[0]

    # --- the remote --------------------------------------------------------------------

    def require_remote(self) -> str:
        """The address of the DVC remote, which answers as far as its kind can tell (HTTP cannot).

        Raises:
            RepositoryUnready: none is set up.
            RemoteUnavailable: it cannot be reached.
        """
        with self._open() as repo, self._reaching():
            remote = repo.cloud.get_remote()
            remote.fs.exists(remote.path)
            return str(remote.path)

    def shared_remote(self) -> str | None:
        """The address of the DVC remote as Git has it, for others than this machine; None: it has none."""
        with self._open() as repo:
            config = repo.config.load_one("repo")
        address = config["remote"].get(config["core"].get("remote"), {}).get("url")
        return None if address is None else str(address)

    def push(self, dvcfiles: Iterable[Path]) -> None:
        """Bring what `dvcfiles` (dvc.yaml or .dvc) track to the DVC remote.

        Raises:
            RemoteUnavailable: safe to repeat.
            NotFound: a file that neither this machine nor the remote has.
        """
        from dvc_data.hashfile.db import get_index

        with self._locked() as repo:
            objects = self._objects(repo, dvcfiles)
            with self._reaching():
                remote = repo.cloud.get_remote_odb(command="push")
                transfer_objects(repo.cache.local, remote, objects, repo, dest_index=get_index(remote))

    def pull(self, dvcfiles: Iterable[Path]) -> None:
        """Put what `dvcfiles` (dvc.yaml or .dvc) track into the working tree, as they record it.

        Raises:
            RemoteUnavailable: safe to repeat.
            NotFound: a file that neither this machine nor the remote has.
            RepositoryUnready: a file here has changes that DVC does not know, and would be lost.
        """
        from dvc.exceptions import CheckoutError, ConfirmRemoveError

        with self._locked() as repo:
            files = list(dvcfiles)
            try:
                self._download(repo, self._objects(repo, files))
            except NotFound:
                self._require_answer(repo)
                raise
            for stage in (stage for dvcfile in files for stage in self._stages(repo, dvcfile)):
                try:
                    stage.checkout()
                except (CheckoutError, ConfirmRemoveError) as error:
                    raise RepositoryUnready(
                        f"{stage.relpath}: a file here has changes that DVC has not recorded, and pulling "
                        f"would lose them: {error} Keep them elsewhere, or give them up: dvc checkout --force"
                    ) from error

    def fetch(self, md5: str, into: Path) -> None:
        """A copy of the file with DVC's digest `md5` at `into`, from this machine or the remote.

        Raises:
            RemoteUnavailable: safe to repeat.
            NotFound: neither has it.
        """
        from dvc_data.hashfile.hash_info import HashInfo

        with self._open() as repo:
            self._download(repo, {HashInfo("md5", md5)})
            shutil.copyfile(repo.cache.local.oid_to_path(md5), into)

    @contextmanager
    def remote_objects(self) -> Iterator[Callable[[str], Iterator[bytes]]]:
        """While the block runs, a function that reads the object with a digest of DVC's from the remote, in
        pieces, whatever this machine has of it. It raises

            NotFound: the remote answers, and does not have it.
            RemoteUnavailable: safe to repeat.

        Raises:
            RepositoryUnready: no remote is set up.
            RemoteUnavailable: it is a folder that is not there.
        """
        with self._open() as repo:
            with self._reaching():
                store = self._remote_store(repo)

            def pieces(digest: str) -> Iterator[bytes]:
                try:
                    with store.fs.open(store.oid_to_path(digest), "rb") as file:
                        while piece := file.read(_PIECE):
                            yield piece
                except FileNotFoundError as error:
                    self._require_answer(repo)
                    raise NotFound(f"The DVC remote of {self.top} has no object {digest}") from error

            def read(digest: str) -> Iterator[bytes]:
                with self._reaching():
                    yield from pieces(digest)

            yield read

    @contextmanager
    def stores(self) -> Iterator[Stores]:
        """Where objects lie. While the block runs, no other DVC command of this clone begins or ends.

        Raises:
            RepositoryUnready: no remote is set up.
            RemoteUnavailable: it cannot be reached.
            AlreadyRunning: another DVC command is at work.
        """
        from dvc_data.hashfile.db import get_index

        with self._locked() as repo:
            with self._reaching():
                remote = repo.cloud.get_remote_odb(command="gc")
            yield Stores(
                ObjectStore(remote, self._reaching, forget=lambda: get_index(remote).clear()),
                ObjectStore(repo.cache.local, self._reaching),
                Path(repo.stage_cache.cache_dir),
            )

    def absent(self, digests: Iterable[str]) -> set[str]:
        """Those of DVC's `digests` that the remote does not have, whatever this machine has.

        Raises:
            RepositoryUnready: no remote is set up.
            RemoteUnavailable: safe to repeat.
        """
        wanted = set(digests)
        with self._open() as repo, self._reaching():
            store = self._remote_store(repo)
            if store.fs.protocol == "local":
                # DVC's own question reads what others may write to, and takes away what is damaged.
                absent = {each for each in wanted if not store.fs.exists(store.oid_to_path(each))}
            else:
                absent = wanted.difference(store.oids_exist(sorted(wanted)))
            if absent:
                self._require_answer(repo)
        return absent

    def _remote_store(self, repo: Repo) -> Any:
        """
        Raises:
            RemoteUnavailable: it is a folder that is not there.
        """
        store = repo.cloud.get_remote_odb(command="pull")
        if store.fs.protocol == "local" and not store.fs.exists(store.path):
            raise RemoteUnavailable(f"There is no DVC remote in {store.path}. Is it mounted?")
        return store

    def _download(self, repo: Repo, objects: set[HashInfo]) -> None:
        """Into the cache, what is not there yet; the remote is asked for nothing else."""
        from dvc_data.hashfile.db import get_index

        cache = repo.cache.local
        absent = {found for found in objects if not cache.exists(found.value)}
        if absent:
            with self._reaching():
                remote = repo.cloud.get_remote_odb(command="pull")
                transfer_objects(remote, cache, absent, repo, src_index=get_index(remote))

    def _require_answer(self, repo: Repo) -> None:
        """To DVC, an HTTP remote that is away has no files.

        Raises:
            RemoteUnavailable: that is so.
        """
        import httpx  # not above: the image, which fetches without DVC, has none

        remote = repo.cloud.get_remote()
        if remote.fs.protocol not in ("http", "https"):
            return
        try:
            httpx.head(remote.path, timeout=ANSWERS_WITHIN_S)
        except httpx.TransportError as error:
            shown = without_credentials(remote.path)
            raise RemoteUnavailable(
                f"The DVC remote {shown} cannot be reached ({error}). Run again"
            ) from error

    def _objects(self, repo: Repo, dvcfiles: Iterable[Path]) -> set[HashInfo]:
        """The digests of all files that `dvcfiles` track in DVC, folders with their contents."""
        objects = set()
        for stage in (stage for dvcfile in dvcfiles for stage in self._stages(repo, dvcfile)):
            for out in (out for out in stage.outs if out.use_cache and out.can_push):
                if not out.hash_info:
                    raise NotFound(
                        f"{stage.addressing} has not made {out} yet. Run it: dvc repro {stage.relpath}"
                    )
                objects.add(out.hash_info)
                if out.is_dir_checksum:
                    objects.update(digest for _, _, digest in _listing(out))
        return objects

    # --- DVC itself --------------------------------------------------------------------

    def _stages(self, repo: Repo, dvcfile: Path, name: str | None = None) -> list[Any]:
        return list(repo.stage.load_all(str(self.top / dvcfile), name))

    @contextmanager
    def _open(self) -> Iterator[Repo]:
        from dvc.config import NoRemoteError
        from dvc.exceptions import DvcException, NotDvcRepoError
        from dvc.lock import LockError
        from dvc.repo import Repo
        from dvc.stage.exceptions import StageFileDoesNotExistError, StageNotFound

        try:
            with Repo(str(self.top)) as repo:
                yield repo
        except NotDvcRepoError as error:
            raise RepositoryUnready(f"{self.top} has no DVC. Set it up: cd {self.top} && dvc init") from error
        except LockError as error:
            raise AlreadyRunning(held_by(self.top, str(error))) from error
        except NoRemoteError as error:
            raise RepositoryUnready(
                f"{self.top} has no DVC remote, where models and data are kept. "
                "Name one: dvc remote add --default NAME URL"
            ) from error
        except (StageFileDoesNotExistError, StageNotFound) as error:
            raise NotFound(f"{self.top}: {error}") from error
        except DvcException as error:
            raise RepositoryUnready(f"DVC cannot go on in {self.top}. Mend what it says: {error}") from error
        except OSError as error:
            raise machine_fault(error, self.top) from error

    @contextmanager
    def _locked(self) -> Iterator[Repo]:
        with self._open() as repo, repo.lock:
            forget_ended(repo)
            yield repo

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from dvc.config import NoRemoteError

        try:
            yield
        except (CoalmineError, NoRemoteError):
            raise
        # Every kind of remote has a library of its own, and each library errors of its own.
        except Exception as error:
            if isinstance(error, OSError) and is_machine_fault(error):
                raise machine_fault(error, self.top) from error
            raise RemoteUnavailable(
                f"The DVC remote of {self.top} cannot be reached. Run again when it is back: "
                f"{without_credentials(error)}"
            ) from error


def _add_files(out: Output, names: list[str], folder: Path) -> str:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import add_update_tree
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.transfer import transfer
    from dvc_data.hashfile.tree import Tree

    cache = out.cache
    tree = _listing(out) if out.hash_info else Tree()
    size = out.meta.size if out.hash_info else 0
    for name in names:
        try:
            staging, meta, file = build(cache, os.path.join(out.fs_path, name), out.fs, "md5")
        except FileNotFoundError as error:
            raise NotFound(f"{folder / name} does not exist") from error
        _, replaced = tree.get((name,)) or (None, None)
        if replaced != file.hash_info:
            transfer(staging, cache, {file.hash_info}, shallow=False)
            size = _grown(size, meta.size, None if replaced is None else cache.oid_to_path(replaced.value))
        tree.add((name,), meta, file.hash_info)
    tree.digest()
    if out.hash_info != tree.hash_info:
        add_update_tree(cache, tree)
        out.hash_info, out.obj = tree.hash_info, tree
        out.meta = Meta(isdir=True, size=size, nfiles=len(tree))
        out.ignore()
        out.stage.dump()
    return str(out.hash_info.value)


def _grown(size: int | None, by: int, replaced: str | None) -> int | None:
    """The folder's size with one file more; unknown where the file that it replaces is not here."""
    if size is None or replaced is None:
        return None if size is None else size + by
    return size + by - os.path.getsize(replaced) if os.path.exists(replaced) else None


def _listing(out: Output) -> Tree:
    """What the folder held when it was recorded, from the cache or the remote."""
    tree = out.get_dir_cache()
    if tree is None:
        raise NotFound(
            f"{out.stage.relpath} records {out} as {out.hash_info.value}, and neither this machine nor "
            "the DVC remote has that listing. Whoever recorded it must push it: dvc push"
        )
    return tree
