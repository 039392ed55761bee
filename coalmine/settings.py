"""coalmine.yaml: the environments of a repository, and which technology each one uses."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from coalmine.errors import NotFound
from coalmine.spec import Name, Spec, load_spec

FILE = Path("coalmine.yaml")
STATE = Path(".coalmine")  # this machine's state, from the top of the repository; never in Git


class Environment(Spec):
    """One place where models serve.

    address: where the users' requests come in, `host:port`; the local Envoy listens there.
    """

    reconciler: Literal["processes"] = "processes"
    router: Literal["envoy"] = "envoy"
    telemetry: Literal["scrape"] = "scrape"
    address: str = Field("127.0.0.1:8800", pattern=r"^[^:]+:\d+$")


class GitSettings(Spec):
    remote: str = "origin"
    branch: str = "main"


class Settings(Spec):
    schema_version: Literal[1] = 1
    git: GitSettings = GitSettings()
    environments: dict[Name, Environment]

    def environment(self, name: str) -> Environment:
        """
        Raises:
            NotFound: names the environments there are.
        """
        try:
            return self.environments[name]
        except KeyError as error:
            there = ", ".join(self.environments)
            raise NotFound(f"{FILE} has no environment `{name}`. There are: {there}.") from error


def load_settings(repository: Path) -> Settings:
    """
    Raises:
        NotFound: no coalmine.yaml here.
        SpecError: what is wrong in it.
    """
    return load_spec(Settings, repository, FILE, [])


def find_repository(start: Path) -> Path:
    """The nearest folder at or above `start` that holds coalmine.yaml.

    Raises:
        NotFound: none; says how to make one.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).is_file():
            return folder
    raise NotFound(
        f"{start.resolve()} is not inside a coalmine repository (no {FILE} here or above). "
        "Go into one, or write a new one: coalmine init DIR"
    )
