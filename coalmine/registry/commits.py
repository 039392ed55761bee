"""Publishing: one commit with one change's paths and tags, on the remote or nowhere.

What a person has staged, changed or left untracked stays theirs, byte for byte: the commit is
built in an index of its own. The commit and its tags appear locally in one transaction and on
the remote in one push, so a process killed between any two steps leaves either the state before
or one that the same call completes. A remote that moved on is joined file by file (`joining`),
never forced; where it cannot be joined, the commit is taken back.

Where Git is told to sign by SSH, commits and tags are signed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coalmine.errors import PushRejected
from coalmine.registry.joining import joined_tree
from coalmine.registry.locks import exclusive
from coalmine.registry.repository import Commit, Repository
from coalmine.registry.signing import SigningKey, signing_key
from coalmine.registry.tags import is_registry_tag
from coalmine.registry.upstream import Refusal, Upstream

_LOCK_WAIT_S = 60.0  # somebody else's push to a slow host
_PUSH_TRIES = 20
_PUSH_WAIT_S = 0.2
_NOTHING = "0" * 40  # Git's name for a reference that is not there


@dataclass(frozen=True)
class Tag:
    """commit: where it stands; None, on the change's own commit."""

    name: str
    message: str
    commit: str | None = None


@dataclass(frozen=True)
class Change:
    """What one commit holds and says. paths: files or folders from the top; those gone are deleted."""

    paths: tuple[Path, ...]
    subject: str
    body: str = ""
    trailers: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[Tag, ...] = ()

    @property
    def message(self) -> str:
        trailers = "\n".join(f"{key}: {value}" for key, value in self.trailers.items())
        return (
            "\n\n".join(part.strip() for part in (self.subject, self.body, trailers) if part.strip()) + "\n"
        )


_NOTHING_NEW = Change(paths=(), subject="")


@dataclass(frozen=True)
class RefUpdate:
    """`name` from `old` to `new`, either of which may be nothing."""

    name: str
    new: str
    old: str


def publish(repository: Repository, change: Change, remote: str, branch: str) -> str:
    """Commit `change`, tag it, push it; return its commit. Called again, it goes on where it was.

    Where nothing differs from the last commit, tags and push are still made good, and the commit
    that holds the change is returned. Commits that a person made before and did not push travel
    along, unaltered.

    Raises:
        RepositoryUnready: detached HEAD, another branch, no such remote, no identity.
        MachineUnready: Git is told to sign, and the key cannot; nothing was written.
        RemoteUnavailable: commit and tags stay here, and the next call pushes them.
        PushRejected: the remote moved on and the two cannot be joined, or it refuses. The commit
            and its tags are taken back; the files stay as they are.
        AlreadyRunning: another process is publishing from this clone.
    """
    repository.require_remote(remote)
    repository.require_branch(branch)
    who, key = repository.identity(), usable_key(repository)
    lock = repository.git_dir / "coalmine.lock"
    with exclusive(lock, f"Recording a commit in {repository.top}", who, wait_s=_LOCK_WAIT_S):
        upstream = Upstream(repository, remote, branch)
        if upstream.tip() is None:
            upstream.fetch()
        sha = _record(upstream, change, key)
        try:
            return _deliver(upstream, change, sha, key)
        except PushRejected:
            _take_back(upstream, change)
            raise


def catch_up(repository: Repository, remote: str, branch: str) -> None:
    """Branch and files hold what the remote's branch holds; commits that were not pushed stay, as do changes.

    Raises:
        RepositoryUnready: detached HEAD, another branch, no such remote.
        RemoteUnavailable: it cannot be reached.
        PushRejected: the two cannot be joined; says why. All is as it was.
        AlreadyRunning: another process is publishing from this clone.
    """
    repository.require_remote(remote)
    repository.require_branch(branch)
    lock = repository.git_dir / "coalmine.lock"
    with exclusive(lock, f"Joining {remote} in {repository.top}", "a reader", wait_s=_LOCK_WAIT_S):
        upstream = Upstream(repository, remote, branch)
        upstream.fetch()
        if upstream.has_moved_on():
            join(upstream, _NOTHING_NEW, "", usable_key(repository))


def usable_key(repository: Repository) -> SigningKey | None:
    """None: nothing is signed here.

    Raises:
        MachineUnready: there is a key, and it cannot sign.
    """
    key = signing_key(repository)
    if key is not None:
        key.require_usable()
    return key


# --- the commit here -------------------------------------------------------------------


def _record(upstream: Upstream, change: Change, key: SigningKey | None) -> str:
    """The commit that holds `change`, made if need be, with its tags; HEAD is it or above it."""
    repository = upstream.repository
    head = repository.head()
    tree = tree_with(repository, head, change.paths)
    updates = []
    if tree == _tree_of(repository, head):
        sha = _holder_of(repository, change) or head
    else:
        parent = f"{head}^" if _is_earlier_attempt(upstream, change) else head
        sha = make_commit(repository, tree, change.message, repository.git("rev-parse", parent), key=key)
        updates.append(RefUpdate(f"refs/heads/{upstream.branch}", sha, head))
    updates += _tag_updates(upstream, change, sha, key)
    # Before the branch moves: whoever commits after a death in between undoes nothing.
    stage_paths(repository, change.paths)
    _update_refs(repository, updates, change.subject)
    return sha


def tree_with(repository: Repository, commit: str, paths: tuple[Path, ...]) -> str:
    """The tree of `commit` with `paths` as they stand in the working tree."""
    with repository.own_index() as env:
        repository.git("read-tree", commit, env=env)
        stage_paths(repository, paths, env)
        return repository.git("write-tree", env=env)


def _tree_of(repository: Repository, commit: str) -> str:
    return repository.git("rev-parse", f"{commit}^{{tree}}")


def stage_paths(
    repository: Repository, paths: tuple[Path, ...], env: Mapping[str, str] | None = None
) -> None:
    names = [path.as_posix() for path in paths]
    # `git add` refuses a name that is neither a file nor in the index: gone here and there.
    tracked = set(repository.git("ls-files", "-z", "--", *names, env=env).split("\0")) if names else set()
    known = [
        name
        for name in names
        if os.path.lexists(repository.top / name)
        or any(path == name or path.startswith(f"{name}/") for path in tracked)
    ]
    if known:
        repository.git("add", "--all", "--", *known, env=env)


def make_commit(
    repository: Repository,
    tree: str,
    message: str,
    *parents: str,
    key: SigningKey | None,
    author: Mapping[str, str] | None = None,
) -> str:
    options = [word for parent in parents for word in ("-p", parent)]
    if key is not None:
        options.append("-S")
    return repository.git("commit-tree", tree, *options, "-F", "-", stdin=message.encode(), env=author)


def _holder_of(repository: Repository, change: Change) -> str | None:
    """The newest commit that is this change."""
    commits = repository.log(change.paths, change.trailers)
    return next((commit.sha for commit in commits if _is(change, commit)), None)


def _is_earlier_attempt(upstream: Upstream, change: Change) -> bool:
    """Whether HEAD is this change from a call that ended before its push, with older contents."""
    tip = upstream.repository.commit("HEAD")
    return _is(change, tip) and tip.sha in upstream.unpushed()


def _is(change: Change, commit: Commit) -> bool:
    return commit.subject == change.subject and dict(commit.trailers) == dict(change.trailers)


def _tag_updates(upstream: Upstream, change: Change, sha: str, key: SigningKey | None) -> list[RefUpdate]:
    """What makes the change's tags stand where they should, as annotated tags.

    Raises:
        PushRejected: one stands on a commit that others have already.
    """
    repository = upstream.repository
    standing = repository.tags()
    updates = []
    for tag in change.tags:
        wanted = tag.commit or sha
        at = standing.get(tag.name)
        if at == wanted:
            continue
        if at is not None and upstream.has(at):
            raise PushRejected(_taken(tag.name, at))
        reference = f"refs/tags/{tag.name}"
        old = _NOTHING if at is None else repository.git("rev-parse", reference)
        updates.append(RefUpdate(reference, _annotated(repository, tag, wanted, key), old))
    return updates


def _annotated(repository: Repository, tag: Tag, commit: str, key: SigningKey | None) -> str:
    tagger = repository.git("var", "GIT_COMMITTER_IDENT")
    text = f"object {commit}\ntype commit\ntag {tag.name}\ntagger {tagger}\n\n{tag.message.strip()}\n"
    content = text.encode()
    if key is not None:
        content += key.sign(content)
    return repository.git("mktag", stdin=content)


def _taken(tag: str, commit: str) -> str:
    return (
        f"The tag {tag} stands on commit {commit[:12]} already: it was released meanwhile. Nothing was "
        "recorded. Take the remote's state (git stash -u && git pull --rebase) and run again"
    )


def _update_refs(repository: Repository, updates: list[RefUpdate], reason: str) -> None:
    """All or none, and only from the state that was read."""
    lines = "".join(
        f"delete {update.name} {update.old}\n"
        if update.new == _NOTHING
        else f"update {update.name} {update.new} {update.old}\n"
        for update in updates
    )
    if lines:
        repository.git("update-ref", "-m", f"coalmine: {reason}", "--stdin", stdin=lines.encode())


# --- the commit there ------------------------------------------------------------------


def _deliver(upstream: Upstream, change: Change, sha: str, key: SigningKey | None) -> str:
    """Push until the remote has it; the commit may be another one after joining."""
    for _ in range(_PUSH_TRIES):
        refusal = upstream.push(_tags_to_push(upstream, change))
        if refusal is None:
            return sha
        upstream.fetch()
        _require_free_tags(upstream, change)
        if upstream.has_moved_on():
            sha = join(upstream, change, sha, key)
        elif refusal.transient:
            time.sleep(_PUSH_WAIT_S)
        else:
            raise _refused(upstream, refusal)
    raise PushRejected(
        f"{upstream.name} moved on {_PUSH_TRIES} times while this was pushed. Nothing was recorded: run again"
    )


def _refused(upstream: Upstream, refusal: Refusal) -> PushRejected:
    said = (
        f"The Git remote `{upstream.remote}` refuses the commit: {refusal.words}. Nothing was recorded, and "
        "the files here are left as they are"
    )
    if refusal.is_protection:
        return PushRejected(
            f"{said}. The branch {upstream.branch} is protected. Releases and candidates can go by pull "
            "requests: `git: {review: {}}` in coalmine.yaml. All else (kept champions, how rollouts ended, "
            "rollbacks) this account pushes, which the host must let past the protection"
        )
    return PushRejected(f"{said}. Ask its owner for what it demands")


def _tags_to_push(upstream: Upstream, change: Change) -> list[str]:
    """The change's tags, and those of earlier changes that never reached the remote."""
    own = [tag.name for tag in change.tags]
    if len(upstream.unpushed()) <= 1:
        return own
    there = upstream.tags()
    waiting = [tag for tag in upstream.repository.tags() if is_registry_tag(tag) and tag not in there]
    return list(dict.fromkeys([*own, *waiting]))


def _require_free_tags(upstream: Upstream, change: Change) -> None:
    here, there = upstream.repository.tags(), upstream.tags()
    for tag in change.tags:
        if tag.name in there and there[tag.name] != here[tag.name]:
            raise PushRejected(_taken(tag.name, there[tag.name]))


def join(upstream: Upstream, change: Change, sha: str, key: SigningKey | None) -> str:
    """Bring branch and working tree onto what the remote holds now; return the change's commit.

    The change alone is made anew on top. Below it may be commits that others refer to by name
    (a manifest names the commit of its code): those are kept as they are, under a merge.
    """
    repository, tip, head = upstream.repository, upstream.tip(), upstream.repository.head()
    assert tip is not None
    found = repository.try_git("merge-base", tip, head)
    if found.status != 0:
        raise PushRejected(
            f"{upstream.name} and {repository.top} have no commit in common. Is it the right remote? "
            f"git remote get-url {upstream.remote}"
        )
    unpushed = upstream.unpushed()
    if not unpushed:
        new = tip
    else:
        tree = joined_tree(repository, found.text, theirs=tip, ours=head)
        if unpushed == [sha] and _is(change, repository.commit(sha)):
            author = _author_of(repository, sha)
            new = sha = make_commit(repository, tree, change.message, tip, key=key, author=author)
        else:
            new = make_commit(repository, tree, f"Merge {upstream.name}\n", head, tip, key=key)
    updates = [
        RefUpdate(f"refs/heads/{upstream.branch}", new, head),
        *_tag_updates(upstream, change, sha, key),
    ]
    # Before the branch moves, for the same reason as above.
    _move_working_tree(upstream, head, new)
    _update_refs(repository, updates, f"join {upstream.name}")
    return sha


def _author_of(repository: Repository, commit: str) -> dict[str, str]:
    name, mail, at = repository.git("log", "-1", "--format=%an%n%ae%n%aI", commit).splitlines()
    return {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail, "GIT_AUTHOR_DATE": at}


def _move_working_tree(upstream: Upstream, old: str, new: str) -> None:
    """Index and files from `old` to `new`, keeping whatever a person has staged or changed.

    Raises:
        PushRejected: a file that must move is one that they changed.
    """
    repository = upstream.repository
    repository.try_git("update-index", "-q", "--refresh")  # else a mere touch would count as a change
    moved = repository.try_git("read-tree", "-m", "-u", old, new)
    if moved.status != 0:
        raise PushRejected(
            f"{upstream.name} changed files that you have changed too, in no commit: {moved.err.strip()} "
            "Nothing was recorded. Commit them or put them aside (git stash -u), and run again"
        )


def _take_back(upstream: Upstream, change: Change) -> None:
    """The state before `publish`, but for the files: no commit, no tags."""
    repository = upstream.repository
    tip = repository.commit("HEAD")
    if not _is(change, tip) or tip.sha not in upstream.unpushed():
        return  # it was pushed long ago, or a person committed on top of it
    standing, there = repository.tags(), upstream.tags()
    updates = [RefUpdate(f"refs/heads/{upstream.branch}", repository.git("rev-parse", "HEAD^"), tip.sha)]
    for tag in change.tags:
        wanted = tag.commit or tip.sha
        if standing.get(tag.name) == wanted != there.get(tag.name):
            reference = f"refs/tags/{tag.name}"
            updates.append(RefUpdate(reference, _NOTHING, repository.git("rev-parse", reference)))
    _update_refs(repository, updates, f"take back: {change.subject}")
    repository.git("reset", "--quiet", "--", *(path.as_posix() for path in change.paths))
