"""The names of releases and assignments as Git tags, in GTO's convention (`gto show` reads them).

A release, `credit-risk@v1.4.2`, stands on the commit that recorded it. An assignment,
`credit-risk#production#7`, says that this release was put there, as the seventh: it stands on
the release's commit too, which is how GTO knows the version.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from coalmine.registry.repository import Repository

_RELEASE = re.compile(r"(?P<model>[^@#]+)@v(?P<version>\d+\.\d+\.\d+)")
_ASSIGNMENT = re.compile(r"(?P<model>[^@#]+)#(?P<environment>[^@#]+)#(?P<number>\d+)")


class Assignment(NamedTuple):
    model: str
    environment: str
    number: int


def release_tag(model: str, version: str) -> str:
    return f"{model}@v{version}"


def assignment_tag(model: str, environment: str, number: int) -> str:
    return f"{model}#{environment}#{number}"


def is_registry_tag(name: str) -> bool:
    """Whether the tag is one of these two kinds, not one of somebody's own."""
    return bool(_RELEASE.fullmatch(name) or _ASSIGNMENT.fullmatch(name))


def released_model(name: str) -> str | None:
    """The model of a release's tag; None: another kind of tag."""
    match = _RELEASE.fullmatch(name)
    return None if match is None else match["model"]


def parse_assignment(name: str) -> Assignment | None:
    """None: another kind of tag."""
    match = _ASSIGNMENT.fullmatch(name)
    return None if match is None else Assignment(match["model"], match["environment"], int(match["number"]))


def releases(repository: Repository, model: str) -> dict[str, str]:
    """Version to commit, oldest version first."""
    return releases_by_model(repository).get(model, {})


def releases_by_model(repository: Repository) -> dict[str, dict[str, str]]:
    """Of every model, version to commit, oldest version first."""
    by_model: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, sha in repository.tags().items():
        if match := _RELEASE.fullmatch(name):
            by_model[match["model"]][match["version"]] = sha
    return {model: dict(sorted(found.items(), key=_in_order)) for model, found in by_model.items()}


def _in_order(release: tuple[str, str]) -> tuple[int, ...]:
    return tuple(map(int, release[0].split(".")))


def assignments(repository: Repository, model: str, environment: str) -> dict[int, str]:
    """Number to the commit of the release that was put there, in order."""
    found = ((_ASSIGNMENT.fullmatch(name), sha) for name, sha in repository.tags().items())
    return dict(
        sorted(
            (int(match["number"]), sha)
            for match, sha in found
            if match and match["model"] == model and match["environment"] == environment
        )
    )
