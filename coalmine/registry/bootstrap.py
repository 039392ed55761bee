"""The Git calls that start a repository, once in its life.

Every function may be called again after it was interrupted. What happens to a repository
later (commits of releases, tags, pushes) stands in this package's other modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from git import Git, GitCommandError, GitCommandNotFound, InvalidGitRepositoryError, NoSuchPathError, Repo

from coalmine.errors import MachineUnready, RemoteUnavailable, RepositoryUnready
from coalmine.settings import STATE

GIT_REMOTE = STATE / "remotes/git.git"  # a laptop's stand-in for a Git host


def has_own_remote(directory: Path, remote: str) -> bool:
    """Whether Git knows a `remote` that is not the stand-in under .coalmine/."""
    repository = _open(directory)
    if repository is None or remote not in [known.name for known in repository.remotes]:
        return False
    return Path(repository.remote(remote).url) != directory / GIT_REMOTE


def check_can_commit(directory: Path, branch: str) -> None:
    """
    Raises:
        MachineUnready: no Git on this machine.
        RepositoryUnready: Git does not know who commits, or `directory` is on another branch.
    """
    there = next(folder for folder in (directory, *directory.parents) if folder.is_dir())
    try:
        # Git itself is asked, because its answer may come from four files or from the environment.
        Git(there).var("GIT_COMMITTER_IDENT")
    except GitCommandNotFound as error:
        raise MachineUnready("There is no git on this machine: install it and run again.") from error
    except GitCommandError as error:
        raise RepositoryUnready(
            "Git does not know who you are, and every commit says so. Tell it: "
            'git config --global user.name "Your Name" && git config --global user.email you@example.org'
        ) from error
    repository = _open(directory)
    if repository is None:
        return
    if repository.head.is_detached:
        raise RepositoryUnready(f"{directory} has a detached HEAD. Go to its branch: git switch {branch}")
    if repository.active_branch.name != branch:
        raise RepositoryUnready(
            f"{directory} is on the branch {repository.active_branch.name}, and coalmine.yaml says {branch}. "
            f"Rename it: git branch -m {branch}"
        )


def create_git(directory: Path, remote: str, branch: str) -> None:
    """A Git repository on `branch`, with a bare `remote` of its own under .coalmine/."""
    bare = directory / GIT_REMOTE
    bare.parent.mkdir(parents=True, exist_ok=True)
    Repo.init(bare, bare=True, initial_branch=branch)
    repository = Repo.init(directory, initial_branch=branch)
    if remote not in [known.name for known in repository.remotes]:
        # Absolute, so that linked worktrees of the repository find it too.
        repository.create_remote(remote, str(bare))


def commit(directory: Path, paths: Iterable[Path], message: str) -> None:
    """`paths` and nothing else in one commit; none where they stand in the last one already."""
    repository = Repo(directory)
    names = [path.as_posix() for path in paths]
    repository.git.add("--", *names)
    if repository.git.diff("--cached", "--name-only", "--", *names):
        try:
            repository.git.commit("--quiet", "--message", message, "--", *names)
        except GitCommandError as error:
            raise RepositoryUnready(
                f"Git refused the first commit in {directory}: {error.stderr.strip()}"
            ) from error


def push(directory: Path, remote: str, branch: str) -> None:
    """
    Raises:
        RemoteUnavailable: safe to retry.
    """
    try:
        Repo(directory).git.push("--quiet", "--set-upstream", remote, branch)
    except GitCommandError as error:
        raise RemoteUnavailable(f"{remote} of {directory} takes no push: {error.stderr.strip()}") from error


def remove_locks(directory: Path) -> None:
    """Takes away the locks that Git left when it was killed. Only for whoever knows that no Git runs here."""
    for repository in (directory / ".git", directory / GIT_REMOTE):
        for lock in repository.rglob("*.lock"):
            lock.unlink(missing_ok=True)


def _open(directory: Path) -> Repo | None:
    try:
        return Repo(directory)
    except (InvalidGitRepositoryError, NoSuchPathError):
        return None
