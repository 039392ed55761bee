"""The Git repository: its state, its history, the files of a commit. It only reads.

Everything that the registry asks Git goes through `Repository.git`, by the git program, since
walking objects in Python is slow on long histories. Commits are made in `commits`.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from coalmine.errors import AlreadyRunning, CoalmineError, MachineUnready, NotFound, RepositoryUnready
from coalmine.registry.faults import machine_fault, machine_fault_in

if TYPE_CHECKING:
    from git import Repo

_RECORD, _FIELD, _TRAILER, _VALUE = "\x1e", "\x1f", "\x1d", "\x1c"
TRAILERS = "%(trailers:only,unfold,separator=%x1d,key_value_separator=%x1c)"
_LOG_FORMAT = f"--format=%x1e%H%x1f%cI%x1f%an <%ae>%x1f%s%x1f{TRAILERS}"
_BLOBS_AT_ONCE = 1000
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",  # nobody may be there to answer
    "GIT_NO_REPLACE_OBJECTS": "1",  # a name means its own bytes, whatever a clone lets stand in for them
}
_OPTIONS = ("-c", "log.showSignature=false")  # or what a person likes to see stands between what is read
_INDEX_LOCK_TRIES = 50  # editors and prompts hold the index for some milliseconds
_INDEX_LOCK_WAIT_S = 0.1


@dataclass(frozen=True)
class Commit:
    """`at` is when it was committed; `author` is "Name <mail>". `signer`: who signed it, as allowed_signers
    names them, where that was asked for."""

    sha: str
    at: datetime
    author: str
    subject: str
    trailers: Mapping[str, str]
    signer: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a git command said and how it ended. timed_out: it was ended, and may have come to nothing."""

    status: int
    out: bytes
    err: str
    timed_out: bool = False

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "surrogateescape").rstrip("\n")


class Repository:
    """A clone with a working tree. `top` is where its `.git` lies."""

    def __init__(self, top: Path, library: Repo) -> None:
        self.top = top
        self._library = library

    @classmethod
    def open(cls, top: Path) -> Repository:
        """
        Raises:
            RepositoryUnready: `top` is not the top of a Git repository.
            MachineUnready: there is no git program.
        """
        try:
            # Here and not above: it takes a quarter of a second, and fails where there is no git program.
            from git import InvalidGitRepositoryError, NoSuchPathError, Repo
        except ImportError as error:
            raise MachineUnready(
                "There is no git program on this machine. Install git 2.30 or newer"
            ) from error
        try:
            return cls(top, Repo(top))
        except (InvalidGitRepositoryError, NoSuchPathError) as error:
            raise RepositoryUnready(
                f"{top} is not the top of a Git repository. Make it one: "
                f"cd {top} && git init -b main && git add -A && git commit -m 'First commit'"
            ) from error

    @property
    def git_dir(self) -> Path:
        return Path(self._library.git_dir)

    # --- state -------------------------------------------------------------------------

    def head(self) -> str:
        """The commit that is checked out.

        Raises:
            RepositoryUnready: there is none yet.
        """
        found = self.try_git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if found.status != 0:
            raise RepositoryUnready(
                f"{self.top} has no commit yet. Make the first: git add -A && git commit -m 'First commit'"
            )
        return found.text

    def branch(self) -> str:
        """
        Raises:
            RepositoryUnready: HEAD is detached.
        """
        found = self.try_git("symbolic-ref", "--short", "--quiet", "HEAD")
        if found.status != 0:
            raise RepositoryUnready(
                f"{self.top} is on no branch (detached HEAD at {self.head()[:12]}). "
                "Go back to one: git switch main. To keep commits made here: git switch -c NAME first"
            )
        return found.text

    def require_branch(self, name: str) -> None:
        """
        Raises:
            RepositoryUnready: another branch is checked out, or none (detached HEAD).
        """
        if self.branch() != name:
            raise RepositoryUnready(
                f"{self.top} is on the branch {self.branch()}, and coalmine.yaml has releases "
                f"recorded on {name}: git switch {name}"
            )

    def require_clean(self, paths: Iterable[Path | str]) -> None:
        """
        Raises:
            RepositoryUnready: names the files under `paths` that differ from the last commit.
        """
        status = self.git(
            "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", *map(str, paths)
        )
        dirty = [entry[3:] for entry in status.split("\0") if entry]
        if dirty:
            shown = ", ".join(dirty[:10]) + (f" and {len(dirty) - 10} more" if len(dirty) > 10 else "")
            raise RepositoryUnready(
                f"{len(dirty)} changed in no commit: {shown}. A release is built from what Git holds: "
                "commit them (git add, git commit) or put them aside (git stash -u)"
            )

    def require_remote(self, name: str) -> None:
        """
        Raises:
            RepositoryUnready: no such remote; names the ones there are.
        """
        remotes = self.git("remote").split()
        if name not in remotes:
            there = f"There are: {', '.join(remotes)}." if remotes else "There is none."
            raise RepositoryUnready(
                f"{self.top} has no Git remote `{name}`. {there} Add it: git remote add {name} URL"
            )

    def remote_url(self, name: str) -> str:
        """Where the remote is, "" where there is none."""
        found = self.try_git("remote", "get-url", name)
        return found.text.strip() if found.status == 0 else ""

    def identity(self) -> str:
        """Who commits here, "Name <mail>", as Git knows it.

        Raises:
            RepositoryUnready: Git has not been told.
        """
        found = self.try_git("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT")
        if found.status != 0:
            raise RepositoryUnready(
                "Git does not know who you are. Tell it: git config --global user.name 'Your Name' "
                "&& git config --global user.email you@example.com"
            )
        return found.text.rpartition(">")[0] + ">"

    # --- history -----------------------------------------------------------------------

    def log(
        self,
        paths: Iterable[Path | str] = (),
        trailers: Mapping[str, str] | None = None,
        revision: str = "HEAD",
    ) -> Iterator[Commit]:
        """The commits of `revision`, newest first, that touch one of `paths` and carry all `trailers`."""
        wanted = dict(trailers or {})
        greps = [f"--grep={key}: {value}" for key, value in wanted.items()]
        sieve = ["--fixed-strings", "--all-match", *greps] if greps else []  # by text; exactly below
        printed = self.git("log", "--full-history", *sieve, _LOG_FORMAT, revision, "--", *map(str, paths))
        for record in printed.split(_RECORD)[1:]:
            commit = _parse_commit(record)
            if all(commit.trailers.get(key) == value for key, value in wanted.items()):
                yield commit

    def commit(self, revision: str) -> Commit:
        return _parse_commit(self.git("log", "-1", _LOG_FORMAT, revision).removeprefix(_RECORD))

    def newest(self, path: Path | str) -> Commit | None:
        """The newest commit that touches `path`; None where none does."""
        found = self.git("log", "-1", _LOG_FORMAT, "HEAD", "--", str(path))
        return _parse_commit(found.removeprefix(_RECORD)) if found else None

    def is_before(self, commit: str, other: str) -> bool:
        """Whether `other` follows `commit`, or is it; not where one of them is not here."""
        return self.try_git("merge-base", "--is-ancestor", commit, other).status == 0

    def read(self, commit: str, path: Path | str) -> bytes:
        """
        Raises:
            NotFound: `commit` has no such file.
        """
        found = self.try_git("cat-file", "blob", f"{commit}:{Path(path).as_posix()}")
        if found.status != 0:
            raise NotFound(f"commit {commit[:12]} of {self.top} has no file {path}")
        return found.out

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """The blobs at `names` (`<commit>:<path>`, or a blob's own), in order; None where there is none.

        One git process for a thousand names, so that no more of them are in memory at once.
        """
        left = iter(names)
        while some := list(islice(left, _BLOBS_AT_ONCE)):
            asked = "".join(f"{name}\n" for name in some).encode("utf-8", "surrogateescape")
            answer, position = self.git_bytes("cat-file", "--batch", stdin=asked), 0
            for _ in some:
                end = answer.index(b"\n", position)
                head, position = answer[position:end], end + 1
                if head.endswith(b" missing"):
                    yield None
                    continue
                size = int(head.split(b" ")[-1])
                yield answer[position : position + size]
                position += size + 1

    def require_whole_history(self) -> None:
        """
        Raises:
            RepositoryUnready: the clone is shallow.
        """
        if self.git("rev-parse", "--is-shallow-repository") == "true":
            raise RepositoryUnready(
                f"{self.top} is a shallow clone, which has the end of the history alone. Take the rest: "
                "git fetch --unshallow"
            )

    def export(self, commit: str, paths: Iterable[Path | str], into: Path) -> None:
        """Write the files under `paths` as `commit` holds them to `into`, at the same paths.

        Raises:
            NotFound: `commit` has nothing at one of `paths`.
            MachineUnready: `into` cannot be written.
        """
        names = [Path(path).as_posix() for path in paths]
        for name in names:
            if self.try_git("cat-file", "-e", f"{commit}:{name}").status != 0:
                raise NotFound(f"commit {commit[:12]} of {self.top} has nothing at {name}")
        with tempfile.TemporaryFile() as archive:
            archive.write(self.git_bytes("archive", "--format=tar", commit, "--", *names))
            archive.seek(0)
            try:
                with tarfile.open(fileobj=archive) as tar:
                    # An attribute, since Python before 3.11.4 knows no filters, and ignores it.
                    tar.extraction_filter = getattr(tarfile, "data_filter", None)
                    tar.extractall(into)
            except OSError as error:
                raise machine_fault(error, into) from error

    def tags(self) -> dict[str, str]:
        """Tag to the commit that it stands on."""
        lines = self.git(
            "for-each-ref", "--format=%(refname:strip=2) %(objectname) %(*objectname)", "refs/tags"
        ).splitlines()
        words = [line.split(" ") for line in lines]
        return {name: peeled or tagged for name, tagged, peeled in words}

    @contextmanager
    def own_index(self) -> Iterator[Mapping[str, str]]:
        """The environment for commands that build a tree without touching the person's index."""
        with tempfile.TemporaryDirectory(prefix="coalmine-index-") as folder:
            yield {"GIT_INDEX_FILE": str(Path(folder) / "index")}

    # --- the git program ---------------------------------------------------------------

    def git(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What the command prints.

        Raises:
            CoalmineError: the command failed; the message holds Git's own words.
        """
        return self._checked(arguments, self.try_git(*arguments, stdin=stdin, env=env)).text

    def git_bytes(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """`git`, for what is not text."""
        return self._checked(arguments, self.try_git(*arguments, stdin=stdin)).out

    def try_git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        within_s: float | None = None,
    ) -> Outcome:
        """Run the command, whatever comes of it; waits a little for somebody else's hold on the index.

        within_s: what it may take, before it is ended with all that it started; None: whatever it needs.
        """
        for _ in range(_INDEX_LOCK_TRIES):
            outcome = self._execute(arguments, stdin, env, within_s)
            if not _index_is_held(outcome):
                break
            time.sleep(_INDEX_LOCK_WAIT_S)
        return outcome

    def _execute(
        self,
        arguments: tuple[str, ...],
        stdin: bytes,
        env: Mapping[str, str] | None,
        within_s: float | None,
    ) -> Outcome:
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            status, out, err = self._library.git.execute(
                ["git", *_OPTIONS, *arguments],
                istream=given,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                kill_after_timeout=within_s,
                env={**_ENVIRONMENT, **(env or {})},
            )
        said = err if isinstance(err, str) else os.fsdecode(err)
        # Where the library has ended a command, its own words stand in place of Git's.
        return Outcome(status, out, said, timed_out=within_s is not None and said.startswith("Timeout: "))

    def _checked(self, arguments: tuple[str, ...], outcome: Outcome) -> Outcome:
        if outcome.status != 0:
            raise self._fault(arguments, outcome)
        return outcome

    def _fault(self, arguments: tuple[str, ...], outcome: Outcome) -> CoalmineError:
        if _index_is_held(outcome):
            return AlreadyRunning(
                f"Another git process is at work in {self.top} ({self.git_dir}/index.lock). Wait for it; "
                f"if there is none, it died there: rm {self.git_dir}/index.lock"
            )
        said = outcome.err.strip()
        return machine_fault_in(said, self.top) or RepositoryUnready(
            f"git {arguments[0]} failed in {self.top}. Mend what Git says and run again: {said}"
        )


def _index_is_held(outcome: Outcome) -> bool:
    return outcome.status != 0 and "index.lock': File exists" in outcome.err


def _parse_commit(record: str) -> Commit:
    sha, at, author, subject, trailers = record.rstrip("\n").split(_FIELD)
    return Commit(
        sha=sha,
        at=datetime.fromisoformat(at),
        author=author,
        subject=subject,
        trailers=parse_trailers(trailers),
    )


def parse_trailers(printed: str) -> dict[str, str]:
    """Key to value, as a log's format prints them with `TRAILERS`."""
    pairs = (trailer.partition(_VALUE) for trailer in printed.split(_TRAILER) if trailer)
    return {key: value.strip() for key, _, value in pairs}
