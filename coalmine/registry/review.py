"""Publishing by review: a change goes to a branch of its own, and the branch of releases gets it by a merge.

Until that is done, this clone is as if the commit had never been made, so that whatever is killed or comes to
the end of its patience is run again from before it. Only the branch `coalmine/...` on the remote and the
reference REVIEWS here know of it.

    merge commit, fast-forward   the commit is on the branch as it was made
    rebase                       another commit with the same contents and trailers: that one is the record's
    squash                       the same, where the message is kept; else it is refused, loudly

The change's tags are made when it is on the branch, on the commit that is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from coalmine.errors import PushRejected, RemoteUnavailable, RepositoryUnready, ReviewAwaited
from coalmine.registry.commits import Change, join, make_commit, stage_paths, tree_with, usable_key
from coalmine.registry.joining import joined_tree
from coalmine.registry.locks import exclusive
from coalmine.registry.pull_requests import GitHost, PullRequest
from coalmine.registry.repository import Commit, Repository
from coalmine.registry.upstream import Upstream
from coalmine.settings import GitSettings, ReviewSettings

REVIEWS = "refs/coalmine/review/"
LOOK_EVERY_S = 5.0
_LOCK_WAIT_S = 60.0
_HOW_TO_MERGE = (
    "Merge it by a merge commit or a rebase. A squash must keep the lines at the end, as its last ones: they "
    "are what an audit reads."
)


@dataclass(frozen=True)
class _Review:
    upstream: Upstream
    name: str  # of the branch that is reviewed

    @property
    def reference(self) -> str:
        return f"{REVIEWS}{self.name}"

    def tip(self) -> str | None:
        """Of the reviewed branch, when the remote last had it."""
        found = self.upstream.repository.try_git("rev-parse", "--verify", "--quiet", self.reference)
        return found.text if found.status == 0 else None

    def fetch(self) -> bool:
        """Whether the branch is there. Asked before the branch of releases: a merge may delete this one."""
        is_there = self.upstream.fetch_beside(self.name, self.reference)
        self.upstream.fetch()
        return is_there

    def commits(self) -> list[Commit]:
        """Those that the branch of releases lacks, newest first; a reviewer may have added some."""
        tip, upstream = self.tip(), self.upstream.tip()
        if tip is None or upstream is None:
            return []
        return list(self.upstream.repository.log(revision=f"{upstream}..{tip}"))

    def holds(self, change: Change) -> bool:
        return any(_is_it(change, commit) for commit in self.commits())

    def forget(self) -> None:
        if self.tip() is not None:
            self.upstream.repository.git("update-ref", "-d", self.reference)


def awaited(
    repository: Repository, git: GitSettings, name: str, trailers: Mapping[str, str]
) -> Commit | None:
    """The change with those `trailers` that was proposed as `name`, and that this clone's branch lacks.

    Raises:
        RemoteUnavailable: it cannot be reached.
    """
    review = _Review(Upstream(repository, git.remote, git.branch), name)
    review.fetch()
    tip = review.tip()
    if tip is None:
        return None
    return next(repository.log(trailers=trailers, revision=f"HEAD..{tip}"), None)


def settle_merged(repository: Repository, change: Change, git: GitSettings, name: str) -> None:
    """What `propose` does after a merge, where that came while nobody waited; nothing before it.

    Raises:
        RemoteUnavailable, PushRejected, AlreadyRunning: as `propose`.
    """
    review = _Review(Upstream(repository, git.remote, git.branch), name)
    with _recording(repository):
        review.fetch()
        merged = _merged(review, change)
        if merged is not None:
            _settle(review, change, merged)


def propose(
    repository: Repository,
    change: Change,
    git: GitSettings,
    review: ReviewSettings,
    name: str,
    tell: Callable[[str], None],
) -> str:
    """As `publish`, by a pull request of the branch `name`; the commit on the branch of releases.

    Where the same change, by its trailers, is proposed already, that one is waited for. Another one of the
    same `name` is replaced.

    Raises:
        ReviewAwaited: nobody merged it for `review.wait_s`: run again to go on.
        RepositoryUnready: detached HEAD, another branch, no such remote, no identity, commits of a person
            that the remote lacks.
        RemoteUnavailable: safe to repeat.
        PushRejected: it was declined, or merged in a way that loses the record; or the remote refuses.
        AlreadyRunning: another process is publishing from this clone.
    """
    repository.require_remote(git.remote)
    repository.require_branch(git.branch)
    proposed = _Review(Upstream(repository, git.remote, git.branch), name)
    deadline, said = time.monotonic() + review.wait_s, ""
    while True:
        with _recording(repository):
            is_there = proposed.fetch()
            merged = _merged(proposed, change)
            if merged is not None:
                return _settle(proposed, change, merged)
            if not is_there and proposed.holds(change):
                proposed.forget()
                raise PushRejected(
                    f"{change.subject}: declined, since the branch {name} was deleted and {git.branch} does "
                    "not have it. Nothing was recorded; the files here are left as they are. Run again to "
                    "propose it once more"
                )
            if not said:
                said = _open(proposed, change, review, instead_of=proposed.tip() if is_there else None)
                tell(f"{said}.")
        if time.monotonic() >= deadline:
            raise ReviewAwaited(
                f"{change.subject}: nobody has merged it into {git.branch} for {review.wait_s:g} s. {said}. "
                "Run again to go on; nothing is made twice"
            )
        time.sleep(min(LOOK_EVERY_S, max(0.0, deadline - time.monotonic())))


def _recording(repository: Repository) -> AbstractContextManager[None]:
    what, who = f"Recording a commit in {repository.top}", repository.identity()
    return exclusive(repository.git_dir / "coalmine.lock", what, who, wait_s=_LOCK_WAIT_S)


def _open(review: _Review, change: Change, settings: ReviewSettings, instead_of: str | None) -> str:
    """The change on its branch, where `instead_of` is now, and asked for; what is to be said."""
    upstream = review.upstream
    # As a host may take it for the message of a squash: trailers are Git's only at the very end.
    body = f"{_HOW_TO_MERGE}\n\n{change.message.removeprefix(change.subject).strip()}\n"
    request = PullRequest(review.name, upstream.branch, change.subject, body)
    host = GitHost.of(upstream.repository.remote_url(upstream.remote), settings.host)
    if not review.holds(change):
        commit = _commit(upstream, change)
        refusal = upstream.push_beside(review.name, commit, instead_of, host.push_options(request))
        if refusal is not None:
            raise PushRejected(
                f"The Git remote `{upstream.remote}` refuses the branch {review.name}: {refusal.words}. "
                "Nothing was recorded, and the files here are left as they are. Run again if another clone "
                "proposed something at the same moment; else let this account push branches of that name"
            )
        upstream.repository.git("update-ref", review.reference, commit)
    return host.open(request, upstream.repository.top)


def _commit(upstream: Upstream, change: Change) -> str:
    """The change alone, on top of what the remote has."""
    repository, head, tip = upstream.repository, upstream.repository.head(), upstream.tip()
    if tip is None:
        raise RepositoryUnready(
            f"{upstream.name} has no commit yet, which a pull request could be compared with. Push the "
            f"first: git push {upstream.remote} {upstream.branch}"
        )
    unpushed = upstream.unpushed()
    if unpushed:
        raise RepositoryUnready(
            f"{upstream.name} lacks {len(unpushed)} commits that are here ({unpushed[0][:12]} and below), "
            "and a pull request of coalmine holds its own alone. Bring them there first, by one of theirs"
        )
    tree = tree_with(repository, head, change.paths)
    if head != tip:
        tree = joined_tree(repository, head, theirs=tip, ours=tree)
    return make_commit(repository, tree, change.message, tip, key=usable_key(repository))


def _is_it(change: Change, commit: Commit) -> bool:
    return all(commit.trailers.get(key) == value for key, value in change.trailers.items())


def _merged(review: _Review, change: Change) -> str | None:
    """The commit of the change on the branch of releases.

    Raises:
        PushRejected: its contents are there without its message, or its message with other contents.
    """
    upstream, repository = review.upstream, review.upstream.repository
    tip, proposed = upstream.tip(), next((c for c in review.commits() if _is_it(change, c)), None)
    if tip is None:
        return None
    found = next(repository.log((), change.trailers, tip), None)
    if proposed is None:
        return None if found is None else found.sha
    paths = _paths_of(repository, proposed.sha)
    there = tip if found is None else found.sha
    is_whole = (
        bool(paths) and repository.try_git("diff", "--quiet", proposed.sha, there, "--", *paths).status == 0
    )
    if found is None and not is_whole:
        return None
    if found is None:
        raise PushRejected(_lost(review, change, "without the trailers of its message"))
    if not is_whole:
        raise PushRejected(_lost(review, change, f"with other contents, as {found.sha[:12]}"))
    return found.sha


def _paths_of(repository: Repository, commit: str) -> list[str]:
    """What the commit changed."""
    changed = repository.git("diff", "--no-renames", "--name-only", "-z", f"{commit}^", commit)
    return [path for path in changed.split("\0") if path]


def _lost(review: _Review, change: Change, how: str) -> str:
    branch = review.upstream.branch
    return (
        f"{change.subject} is on {branch} {how}, so that no audit could read it, and it gets no tag. Revert "
        f"it there (git log -3 {review.upstream.name}) and merge {review.name} again by a merge commit or a "
        "rebase; a squash must keep the message. Then run again"
    )


def _settle(review: _Review, change: Change, merged: str) -> str:
    """Branch, files and tags here as the remote has the change now; its tags there."""
    upstream, repository = review.upstream, review.upstream.repository
    if not repository.is_before(merged, "HEAD"):
        # They may be here, in no commit: files that differ from the last commit would not move.
        stage_paths(repository, tuple(map(Path, _paths_of(repository, merged))))
    join(upstream, change, merged, usable_key(upstream.repository))
    if change.tags and (refusal := upstream.push_tags(tag.name for tag in change.tags)) is not None:
        raise PushRejected(
            f"{change.subject} is merged as {merged[:12]}, and the Git remote `{upstream.remote}` refuses "
            f"its tag: {refusal.words}. Let this account push tags, and run again"
        )
    if review.tip() is not None:
        review.forget()
        with suppress(RemoteUnavailable):  # the record stands; the branch is only in the way
            upstream.delete_beside(review.name)
    return merged
