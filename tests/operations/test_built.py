"""The objects that Git has for an environment: built in parts as they would be at once, and only once."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coalmine.errors import SpecError
from coalmine.operations import built
from coalmine.operations.built import BuiltObjects
from coalmine.reconcilers.kustomize import build
from coalmine.registry.repository import Repository
from coalmine.scaffold.environment import Remotes, Wanted, new_environment
from coalmine.scaffold.repository import init
from tests.needs import needs_kustomize

pytestmark = needs_kustomize

MODELS = ("credit-risk", "flight-delays")
ENVIRONMENTS = ("production", "staging")
KINDS = ("Deployment", "ConfigMap")
PLACE = Path("k8s/environments/production")


@dataclass
class Place:
    """builds: the environment's kustomization.yaml at each build, as its resources."""

    top: Path
    builds: list[list[str]] = field(default_factory=list)

    def objects(self) -> list[dict[str, Any]]:
        """As another process finds them."""
        repository = Repository.open(self.top)
        of = BuiltObjects(repository, "production", ENVIRONMENTS, KINDS)
        return in_order(of.at(repository.head()))

    def at_once(self) -> list[dict[str, Any]]:
        return in_order(each for each in build(self.top, PLACE, "here") if each["kind"] in KINDS)

    def edit(self, path: str, edit: Callable[[str], str]) -> None:
        file = self.top / path
        file.write_text(edit(file.read_text()))
        self.commit()

    def commit(self) -> None:
        for words in (("add", "--all"), ("commit", "--quiet", "--message", "An edit")):
            subprocess.run(["git", *words], cwd=self.top, check=True)

    def built(self) -> list[list[str]]:
        """Since it was asked last."""
        builds, self.builds = self.builds, []
        return sorted(builds)


def in_order(objects: Any) -> list[dict[str, Any]]:
    return sorted(objects, key=lambda each: (each["kind"], each["metadata"]["name"]))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Kim")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "kim@example.org")
    top = tmp_path / "work"
    init(top)
    wanted = Wanted(router="gateway_api", reconciler="flux", host="m.example.com", gateway="gateways/users")
    for name in ENVIRONMENTS:
        new_environment(top, name, wanted, Remotes("https://git.example.com/m.git", "main", "s3://m/dvc"))
    made = Place(top)
    made.commit()

    def counted(of: Path, folder: Path, where: str) -> Any:
        text = (of / folder / "kustomization.yaml").read_text()
        made.builds.append(re.findall(r"^\s*- ([\w.-]+)$", text.split("resources:")[1], re.MULTILINE))
        return build(of, folder, where)

    monkeypatch.setattr(built, "build", counted)
    monkeypatch.setattr(built, "AT_ONCE", 1)
    return made


def test_parts_are_built_to_what_the_whole_is_and_once(place: Place) -> None:
    assert place.objects() == place.at_once() != []
    assert place.built() == [["credit-risk"], ["flight-delays"], ["settings.yaml"]]
    assert place.objects() == place.at_once()
    assert place.built() == []


def test_only_what_a_commit_has_changed_is_built_again(place: Place) -> None:
    place.objects()
    place.built()
    place.edit(
        f"{PLACE}/credit-risk/kustomization.yaml",
        lambda text: text.replace("blue, count: 1", "blue, count: 5"),
    )
    assert place.objects() == place.at_once()
    assert place.built() == [["credit-risk"]]
    place.edit("k8s/environments/staging/kustomization.yaml", lambda text: f"# another\n{text}")
    place.edit("models/credit-risk/model.yaml", lambda text: f"# another\n{text}")
    assert place.objects() == place.at_once()
    assert place.built() == []
    place.edit(
        "k8s/base/slot/deployment.yaml",
        lambda text: text.replace("revisionHistoryLimit: 2", "revisionHistoryLimit: 3"),
    )
    assert place.objects() == place.at_once()
    assert len(place.built()) == 3


def test_what_does_not_build_in_parts_is_built_at_once(place: Place) -> None:
    patch = """
patches:
  - patch: |
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: coalmine}
      data: {OF: all}
"""
    place.edit(f"{PLACE}/kustomization.yaml", lambda text: text + patch)
    objects = place.objects()
    assert objects == place.at_once()
    assert {"OF": "all"}.items() <= next(each for each in objects if each["metadata"]["name"] == "coalmine")[
        "data"
    ].items()
    assert [*MODELS, "settings.yaml"] in map(sorted, place.built())
    assert place.objects() == objects
    assert place.built() == []


def test_what_does_not_build_at_all_is_said_in_kustomizes_words(place: Place) -> None:
    place.edit(f"{PLACE}/kustomization.yaml", lambda text: text.replace("- credit-risk", "- missing"))
    with pytest.raises(SpecError, match="missing"):
        place.objects()


def test_what_was_kept_and_is_damaged_is_built_again(place: Place) -> None:
    objects = place.objects()
    for file in (place.top / ".coalmine/built/production").iterdir():
        file.write_text("[")
    assert place.objects() == objects
