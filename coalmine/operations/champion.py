"""The champion of a model, its newest release, and the newest decision about one.

The champion is whom a challenger must beat: the newest release that no environment has turned
away. A model that looked better offline and failed its users is nobody's yardstick.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from coalmine.errors import NotFound
from coalmine.manifest import (
    Considered,
    Manifest,
    considered_path,
    manifest_path,
    parse_considered,
    parse_manifest,
)
from coalmine.registry import tags
from coalmine.registry.repository import Commit, Repository


@dataclass(frozen=True)
class Release:
    """A recorded release: its manifest, and the commit where it stands."""

    manifest: Manifest
    commit: str


def champion(repository: Repository, model: str) -> Release | None:
    """None before the first release that held."""
    away = turned_away(repository, model)
    held = [version for version in tags.releases(repository, model) if version not in away]
    return release(repository, model, held[-1]) if held else None


def newest(repository: Repository, model: str) -> Release | None:
    """None before the first release."""
    releases = tags.releases(repository, model)
    return release(repository, model, list(releases)[-1]) if releases else None


def turned_away(repository: Repository, model: str, environment: str | None = None) -> dict[str, Commit]:
    """Version to the commit that turned it away, in any environment or in one.

    A release that was rolled out again, and promoted, is not among them.
    """
    here = {"Model": model} if environment is None else {"Model": model, "Environment": environment}
    away: dict[str, Commit] = {}
    for commit in reversed(list(repository.log(trailers=here))):
        match commit.trailers.get("Decision"):
            case "rejected":
                away[commit.trailers["Version"]] = commit
            case "rolled-back":
                away[commit.trailers["Rolled-Back"]] = commit
                away.pop(commit.trailers["Version"], None)
            case "promoted":
                away.pop(commit.trailers["Version"], None)
    return away


def release(repository: Repository, model: str, version: str) -> Release:
    """
    Raises:
        NotFound: names the versions there are.
    """
    releases = tags.releases(repository, model)
    if version not in releases:
        there = f"There are: {', '.join(releases)}." if releases else f"None yet: coalmine retrain {model}"
        raise NotFound(f"{model} has no release {version}. {there}")
    commit = releases[version]
    path = manifest_path(model)
    return Release(parse_manifest(repository.read(commit, path).decode(), str(path)), commit)


def considered(repository: Repository, model: str) -> Considered | None:
    """The newest decision that Git holds; None before the first."""
    path = considered_path(model)
    try:
        return parse_considered(repository.read(repository.head(), path).decode(), str(path))
    except NotFound:
        return None


def lock_digest(top: Path, model: str) -> str:
    """sha256 of the model's dvc.lock as it stands."""
    return hashlib.sha256((top / "models" / model / "dvc.lock").read_bytes()).hexdigest()
