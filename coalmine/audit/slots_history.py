"""The slots of a model through time, as Git's commits of the slots file tell them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from coalmine.registry.repository import Commit, Repository
from coalmine.slots import Slots, parse_slots

Place = tuple[str, str]  # environment, model


def place_of(commit: Commit) -> Place | None:
    """Where the commit's trailers say that it changed the slots; None: they say of no place."""
    trailers = commit.trailers
    if "Environment" not in trailers or "Model" not in trailers:
        return None
    return trailers["Environment"], trailers["Model"]


@dataclass(frozen=True)
class SlotsChange:
    """The slots of one model in one environment before and after one commit."""

    commit: Commit
    before: Slots
    after: Slots

    @property
    def changes_stable(self) -> bool:
        """Whether another release, or none, served from then on."""
        return self.before.stable_release != self.after.stable_release


def slots_history(
    repository: Repository, environment: str | None = None, model: str | None = None
) -> dict[Place, list[SlotsChange]]:
    """Every commit of every slots file, oldest first, by environment and model; also of those that are gone.

    Also those that closed a rollout whose candidate had been taken out of the file before.
    A git process for each question, and for every thousand files, for any number of models.
    """
    files = f":(glob)k8s/environments/{environment or '*'}/{model or '*'}/slots.yaml"
    records = f":(glob)models/{model or '*'}/rollouts/*/rollout.yaml"
    commits = {commit.sha: commit for commit in reversed(list(repository.log([files, records])))}
    touched = [(sha, path) for sha, path in _touched(repository, files) if sha in commits]
    left: dict[str, dict[Place, Slots]] = {sha: {} for sha in commits}
    texts = repository.read_all([f"{sha}:{path}" for sha, path in touched])
    for (sha, path), text in zip(touched, texts, strict=True):
        place = (path.parts[2], path.parts[3])
        left[sha][place] = (
            _nothing(place) if text is None else parse_slots(text.decode(), f"{path} at commit {sha[:12]}")
        )
    changes: dict[Place, list[SlotsChange]] = {}
    for sha, commit in commits.items():
        closed = place_of(commit)
        if closed is not None and closed in changes:
            left[sha].setdefault(closed, changes[closed][-1].after)
        for place, after in left[sha].items():
            earlier = changes.setdefault(place, [])
            earlier.append(SlotsChange(commit, earlier[-1].after if earlier else _nothing(place), after))
    return changes


def _nothing(place: Place) -> Slots:
    return Slots(environment=place[0], model=place[1])


def _touched(repository: Repository, files: str) -> list[tuple[str, PurePosixPath]]:
    """Commits and the slots files that each changed, oldest first."""
    # -c: a merge counts where it differs from both sides, that is, where a person resolved a conflict.
    told = repository.git("log", "--full-history", "-c", "--format=%x1e%H", "--name-only", "--", files)
    records = [record.split("\n") for record in told.split("\x1e")[1:]]
    return [(record[0], PurePosixPath(path)) for record in reversed(records) for path in record[1:] if path]
