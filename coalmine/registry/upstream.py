"""The branch on the Git remote: what it holds, what it lacks, and the push itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coalmine.errors import RemoteUnavailable
from coalmine.registry.faults import machine_fault_in
from coalmine.registry.repository import Outcome, Repository

ANSWERS_WITHIN_S = 300.0  # a whole fetch or push: of commits, since data and models go to the DVC remote
_SEEN = "refs/coalmine/seen/"  # what the remote has names for, for as long as it is looked at
# Another push holds the remote's locks at this moment.
_TRANSIENT = ("cannot lock ref", "failed to update ref", "failed to lock", "incorrect old value provided")
# How hosts say that a branch takes pull requests alone: GitHub (branch protection, rules), GitLab, Gitea and
# Forgejo, Bitbucket, Azure DevOps.
_PROTECTED = re.compile(
    r"protected branch|branch is protected|is protected|GH006|GH013|only be modified through pull request"
    r"|TF402455|must use a pull request",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Refusal:
    """Why the remote took nothing, in its own words; `transient` when the same push may pass soon."""

    words: str
    transient: bool

    @property
    def is_protection(self) -> bool:
        """Whether the branch takes no pushes from this account, as far as the words tell."""
        return _PROTECTED.search(self.words) is not None


@dataclass(frozen=True)
class Upstream:
    repository: Repository
    remote: str
    branch: str

    @property
    def name(self) -> str:
        return f"{self.remote}/{self.branch}"

    def tip(self) -> str | None:
        """The remote's newest commit when it was last asked; None when it has none, or never was."""
        found = self.repository.try_git("rev-parse", "--verify", "--quiet", f"refs/remotes/{self.name}")
        return found.text if found.status == 0 else None

    def newest(self) -> str:
        """Whose word counts: the remote's, as it was last asked, where HEAD is merely behind it; else HEAD's.

        Raises:
            RepositoryUnready: there is no commit yet.
        """
        head, tip = self.repository.head(), self.tip()
        return tip if tip is not None and self.repository.is_before(head, tip) else head

    def unpushed(self) -> list[str]:
        """The commits of HEAD that the remote's branch lacked when it was last asked, newest first."""
        tip = self.tip()
        return self.repository.git("rev-list", "--topo-order", "HEAD", *([f"^{tip}"] if tip else [])).split()

    def has(self, commit: str) -> bool:
        """Whether the remote's branch held `commit` when it was last asked."""
        tip = self.tip()
        if tip is None:
            return False
        return self.repository.is_before(commit, tip)

    def has_moved_on(self) -> bool:
        """Whether the remote holds commits that HEAD lacks."""
        tip = self.tip()
        if tip is None:
            return False
        return not self.repository.is_before(tip, "HEAD")

    def fetch(self) -> None:
        """
        Raises:
            RemoteUnavailable: it cannot be reached.
        """
        refspec = f"+refs/heads/{self.branch}:refs/remotes/{self.name}"
        outcome = self._ask("fetch", "--quiet", self.remote, refspec)
        if outcome.status != 0 and "couldn't find remote ref" not in outcome.err:
            raise self._unavailable(outcome)

    @contextmanager
    def all_references(self) -> Iterator[None]:
        """While the block runs, all that the remote has a name for has one here too: every branch and tag,
        and what a host keeps beside them, such as pull requests.

        Raises:
            RemoteUnavailable: it cannot be reached.
        """
        # An empty refmap: what this clone follows of the remote stays as it was last fetched.
        fetch = ("fetch", "--quiet", "--no-tags", "--prune", "--no-write-fetch-head", "--refmap=")
        outcome = self._ask(*fetch, self.remote, f"+refs/*:{_SEEN}*")
        if outcome.status != 0:
            raise self._unavailable(outcome)
        try:
            yield
        finally:
            seen = self.repository.git("for-each-ref", "--format=delete %(refname)", _SEEN)
            self.repository.git("update-ref", "--stdin", stdin=f"{seen}\n".encode() if seen else b"")

    def tags(self) -> dict[str, str]:
        """The remote's tags, to the commits they stand on.

        Raises:
            RemoteUnavailable: it cannot be reached.
        """
        outcome = self._ask("ls-remote", "--tags", self.remote)
        if outcome.status != 0:
            raise self._unavailable(outcome)
        lines = (line.split("\t") for line in outcome.text.splitlines())
        # A peeled entry (`^{}`) follows its tag and replaces it.
        return {ref.removeprefix("refs/tags/").removesuffix("^{}"): sha for sha, ref in lines}

    def push(self, tags: Iterable[str]) -> Refusal | None:
        """Branch and `tags`, all or nothing; None when the remote has them now.

        Raises:
            RemoteUnavailable: it cannot be reached.
        """
        heads = f"refs/heads/{self.branch}"
        return self._push("--atomic", refspecs=[f"{heads}:{heads}", *_of_tags(tags)])

    def push_tags(self, tags: Iterable[str]) -> Refusal | None:
        """As `push`, without the branch."""
        return self._push("--atomic", refspecs=_of_tags(tags))

    def push_beside(
        self, name: str, commit: str, instead_of: str | None, options: Iterable[str] = ()
    ) -> Refusal | None:
        """As `push`, for the branch `name`, which is at `instead_of` until then. options: for the host."""
        reference = f"refs/heads/{name}"
        words = [f"--push-option={option}" for option in options]
        lease = f"--force-with-lease={reference}:{instead_of or ''}"
        return self._push(lease, *words, refspecs=[f"{commit}:{reference}"])

    def delete_beside(self, name: str) -> None:
        """The branch `name` is not needed any more. A host that does not want that keeps it.

        Raises:
            RemoteUnavailable: it cannot be reached, or has no such branch.
        """
        self._push(refspecs=[f":refs/heads/{name}"])

    def fetch_beside(self, name: str, into: str) -> bool:
        """The branch `name` as the reference `into`, which stays as it was where there is no such branch.

        Raises:
            RemoteUnavailable: it cannot be reached.
        """
        refspec = f"+refs/heads/{name}:{into}"
        outcome = self._ask("fetch", "--quiet", "--no-tags", "--refmap=", self.remote, refspec)
        if outcome.status != 0 and "couldn't find remote ref" not in outcome.err:
            raise self._unavailable(outcome)
        return outcome.status == 0

    def _push(self, *options: str, refspecs: Iterable[str]) -> Refusal | None:
        outcome = self._ask("push", "--porcelain", *options, self.remote, *refspecs)
        if outcome.status == 0:
            return None
        refused = [line for line in outcome.text.splitlines() if line.startswith("!")]
        if not refused:
            raise self._unavailable(outcome)
        remote_words = [line for line in outcome.err.splitlines() if line.startswith("remote:")]
        words = "; ".join(" ".join(line.split("\t")[1:]) for line in refused)
        said = " ".join([words, *(line.strip() for line in remote_words)])
        return Refusal(said, transient=any(sign in said for sign in _TRANSIENT))

    def _ask(self, *arguments: str) -> Outcome:
        """A command that needs the remote.

        Raises:
            RemoteUnavailable: it does not come to an end.
        """
        outcome = self.repository.try_git(*arguments, within_s=ANSWERS_WITHIN_S)
        if outcome.timed_out:
            raise RemoteUnavailable(
                f"The Git remote `{self.remote}` of {self.repository.top} did not answer within "
                f"{ANSWERS_WITHIN_S:g} s. What is committed here stays; run again when it is back"
            )
        return outcome

    def _unavailable(self, outcome: Outcome) -> Exception:
        said = outcome.err.strip()
        return machine_fault_in(said, self.repository.top) or RemoteUnavailable(
            f"The Git remote `{self.remote}` of {self.repository.top} cannot be reached. What is committed "
            f"here stays; run again when it is back. Git said: {said}"
        )


def _of_tags(tags: Iterable[str]) -> list[str]:
    return [f"refs/tags/{tag}:refs/tags/{tag}" for tag in tags]
