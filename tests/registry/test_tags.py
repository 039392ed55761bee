"""The tags are GTO's: GTO itself reads them."""

from __future__ import annotations

from typing import Any

import pytest
from gto.api import history, show

from coalmine.registry.tags import assignment_tag, assignments, is_registry_tag, release_tag, releases


def _tag(clone: Any, name: str) -> None:
    clone.git("tag", "-a", name, "-m", name)


def test_releases_are_ordered_by_version_not_by_name(clone: Any) -> None:
    first = clone.git("rev-parse", "HEAD")
    _tag(clone, release_tag("delay", "1.9.0"))
    second = clone.commit("a.txt", "1")
    _tag(clone, release_tag("delay", "1.10.0"))
    _tag(clone, release_tag("delay-long", "3.0.0"))

    assert list(releases(clone.repository, "delay").items()) == [("1.9.0", first), ("1.10.0", second)]


def test_assignments_are_those_of_one_model_in_one_environment_in_order(clone: Any) -> None:
    head = clone.git("rev-parse", "HEAD")
    for number in (10, 9):
        _tag(clone, assignment_tag("delay", "production", number))
    _tag(clone, assignment_tag("delay", "local", 1))

    assert list(assignments(clone.repository, "delay", "production").items()) == [(9, head), (10, head)]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("delay@v1.0.0", True),
        ("delay#production#3", True),
        ("v1.0.0", False),
        ("delay@1.0.0", False),
        ("delay#production", False),
    ],
)
def test_a_persons_own_tags_are_told_apart(name: str, known: bool) -> None:
    assert is_registry_tag(name) is known


def test_gto_shows_the_same_releases_and_assignments(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = clone.git("rev-parse", "HEAD")
    names = [release_tag("delay", "1.0.0"), assignment_tag("delay", "production", 1)]
    for second, name in enumerate(names):  # GTO orders by the tags' own second
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"2026-01-01T00:00:0{second}Z")
        _tag(clone, name)
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-01-01T00:00:09Z")
    clone.commit("a.txt", "1")
    _tag(clone, release_tag("delay", "1.0.1"))

    shown = show(str(clone.top))["delay"]
    events = [
        (row["event"], row["version"], row["commit"]) for row in history(str(clone.top), ascending=True)
    ]

    assert (shown["version"], shown["stage"]) == ("v1.0.1", {"production": "v1.0.0"})
    assert events == [
        ("registration", "v1.0.0", releases(clone.repository, "delay")["1.0.0"]),
        ("assignment", "v1.0.0", assignments(clone.repository, "delay", "production")[1]),
        ("registration", "v1.0.1", releases(clone.repository, "delay")["1.0.1"]),
    ]
    assert events[0][2] == events[1][2] == first
