"""One repository, opened: what every step of a release works on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from coalmine.errors import NotFound
from coalmine.registry.commits import Change, publish
from coalmine.registry.dvc import DvcProject
from coalmine.registry.locks import exclusive
from coalmine.registry.repository import Commit, Repository
from coalmine.registry.review import awaited, propose, settle_merged
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
            RepositoryUnready: no Git remote, another branch than coalmine.yaml names, or none.
        """
        self.repository.require_branch(self.settings.git.branch)
        self.repository.require_remote(self.settings.git.remote)

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

    def alone(self, what: str, who: str) -> AbstractContextManager[None]:
        """Only one process at a time does `what`, such as "retrain flight-delays", in this repository.

        Raises:
            AlreadyRunning: names the other process.
        """
        return exclusive(self.top / STATE / "locks" / what.replace(" ", "-"), what.capitalize(), who)
