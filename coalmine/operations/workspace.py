"""One repository, opened: what every step of a release works on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coalmine.errors import NotFound, RepositoryUnready
from coalmine.registry.commits import Change, publish
from coalmine.registry.dvc import DvcProject
from coalmine.registry.locks import exclusive
from coalmine.registry.repository import Commit, Repository
from coalmine.registry.review import awaited, propose, settle_merged
from coalmine.registry.signing import signing_key
from coalmine.registry.trust import read_trust
from coalmine.settings import STATE, Settings, find_repository, load_settings

Tell = Callable[[str], None]  # progress, one sentence for people at a time


@dataclass(frozen=True)
class Workspace:
    top: Path
    settings: Settings
    repository: Repository
    dvc: DvcProject

    @classmethod
    def open(cls, start: Path) -> Workspace:
        """The repository at or above `start`.

        Raises:
            NotFound: `start` is in no coalmine repository.
            RepositoryUnready: it is not in Git.
        """
        top = find_repository(start)
        # A dataset's source is a module of the repository, named by dotted path in dataset.yaml.
        if str(top) not in sys.path:
            sys.path.insert(0, str(top))
        return cls(top, load_settings(top), Repository.open(top), DvcProject(top))

    def require_record(self) -> None:
        """What every commit of a release needs, before anything is begun that ends in one.

        Raises:
            RepositoryUnready: no Git remote, another branch than coalmine.yaml names, or none; or as
                `require_signing` says.
            MachineUnready: as `require_signing` says.
        """
        self.repository.require_branch(self.settings.git.branch)
        self.repository.require_remote(self.settings.git.remote)
        self.require_signing()

    def require_signing(self) -> str | None:
        """Who signs what is recorded from this clone, as allowed_signers names them; None: nobody needs to.

        Raises:
            RepositoryUnready: coalmine.yaml requires signatures, and Git has no key here, or one that does
                not count.
            MachineUnready: Git has a key, and it cannot sign.
        """
        key = signing_key(self.repository)
        probe = None if key is None else key.sign(b"")
        if not self.settings.requires_signatures:
            return None
        if probe is None:
            raise RepositoryUnready(
                f"coalmine.yaml requires signatures, and Git does not sign in {self.top}. Tell it with which "
                "key: git config gpg.format ssh && git config user.signingkey ~/.ssh/id_ed25519.pub"
            )
        checked = read_trust(self.repository).listed.check(probe, b"", datetime.now(UTC))
        if not checked.is_good:
            raise RepositoryUnready(
                f"coalmine.yaml requires signatures, and those of this clone do not count: {checked.words}. "
                "Somebody whom it names must list the key there, in a commit that they sign "
                "(docs/signatures.md)"
            )
        return checked.principal

    def publish(self, change: Change, name: str, tell: Tell) -> str:
        """The commit of `change` on the branch of releases: pushed, or, where coalmine.yaml asks for reviews,
        merged there by somebody, from a branch called after `name`.

        Raises:
            ReviewAwaited: nobody has merged it yet; run again to go on.
            CoalmineError: as `registry.commits.publish`.
        """
        git = self.settings.git
        if git.review is None:
            return publish(self.repository, change, git.remote, git.branch)
        return propose(self.repository, change, git, git.review, f"coalmine/{name}", tell)

    def awaiting_review(self, name: str, trailers: Mapping[str, str]) -> Commit | None:
        """What `publish` proposed with those `trailers`, here or elsewhere, and the branch here lacks."""
        git = self.settings.git
        return None if git.review is None else awaited(self.repository, git, f"coalmine/{name}", trailers)

    def settle_review(self, change: Change, name: str) -> None:
        """What `publish` does after the merge of `change`, where that came while nobody waited."""
        settle_merged(self.repository, change, self.settings.git, f"coalmine/{name}")

    def releases_folder(self, model: str) -> Path:
        """Where the model's releases lie on this machine, ready to be scored or served."""
        return self.top / STATE / "releases" / model

    def committed_partitions(self, dataset: str) -> set[str]:
        """The partitions of the dataset's report as the last commit holds it."""
        try:
            report = self.repository.read(self.repository.head(), Path("data") / dataset / "report.json")
        except NotFound:
            return set()
        return {partition["partition"] for partition in json.loads(report)["partitions"]}

    def alone(self, what: str, who: str, wait_s: float = 0.0) -> AbstractContextManager[None]:
        """Only one process at a time does `what`, such as "retrain flight-delays", in this repository.

        Raises:
            AlreadyRunning: another does for longer than `wait_s`; names it.
        """
        return exclusive(self.top / STATE / "locks" / what.replace(" ", "-"), what.capitalize(), who, wait_s)
