"""Who the champion is follows from what the record says of each release."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coalmine.operations.champion import turned_away
from coalmine.operations.versions import Bump, next_version
from coalmine.registry.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    _git(tmp_path, "init", "-q", "-b", "main")
    return Repository.open(tmp_path)


def _git(top: Path, *words: str) -> None:
    who = ("-c", "user.name=Mia", "-c", "user.email=mia@example.com")
    subprocess.run(["git", *who, *words], cwd=top, check=True, capture_output=True)


def commit(repository: Repository, **trailers: str) -> None:
    said = "\n".join(f"{key.replace('_', '-')}: {value}" for key, value in trailers.items())
    _git(repository.top, "commit", "-q", "--allow-empty", "-m", f"something\n\nModel: m\n{said}")


@pytest.mark.parametrize(
    ("events", "away"),
    [
        pytest.param([{"Decision": "promoted", "Version": "1.0.0"}], [], id="a promoted one is not"),
        pytest.param([{"Decision": "rejected", "Version": "1.1.0"}], ["1.1.0"], id="a rejected one is"),
        pytest.param(
            [{"Decision": "rejected", "Version": "1.1.0"}, {"Decision": "promoted", "Version": "1.1.0"}],
            [],
            id="one that held the second time is not",
        ),
        pytest.param(
            [{"Decision": "rolled-back", "Version": "1.0.0", "Rolled_Back": "1.1.0"}],
            ["1.1.0"],
            id="one that was rolled back from is",
        ),
        pytest.param([{"Decision": "candidate", "Version": "1.1.0"}], [], id="one under way is not"),
    ],
)
def test_a_release_is_turned_away_by_its_last_ending(
    repository: Repository, events: list[dict[str, str]], away: list[str]
) -> None:
    for trailers in events:
        commit(repository, Environment="local", **trailers)
    assert list(turned_away(repository, "m")) == away
    assert list(turned_away(repository, "m", "local")) == away
    assert list(turned_away(repository, "m", "elsewhere")) == []


@pytest.mark.parametrize(
    ("newest", "bump", "following"),
    [
        ("1.0.0", Bump.PATCH, "1.0.1"),
        ("1.2.9", Bump.PATCH, "1.2.10"),
        ("1.2.9", Bump.MINOR, "1.3.0"),
        ("1.2.9", Bump.MAJOR, "2.0.0"),
    ],
)
def test_a_version_says_what_changed(newest: str, bump: Bump, following: str) -> None:
    assert next_version(newest, bump) == following
