"""What `coalmine new training` writes, what it leaves alone, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.errors import InputError, NotFound
from coalmine.scaffold.environment import Remotes
from coalmine.scaffold.training import Wanted, Written, new_training
from tests.k8s.environments import ENVIRONMENT, NAMESPACE, REMOTES, new_repository

WANTED = Wanted(ENVIRONMENT, "training", "http://prefect:4200/api")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return new_repository(tmp_path, "gateway_api").top


def read(repository: Path, file: str) -> Any:
    return yaml.safe_load((repository / "k8s/training" / file).read_text())


def test_the_settings_are_those_of_the_repository(repository: Path) -> None:
    new_training(repository, WANTED, REMOTES)
    assert read(repository, "settings.yaml")["data"] == {
        "ENVIRONMENT": ENVIRONMENT,
        "GIT_URL": REMOTES.git,
        "GIT_BRANCH": REMOTES.branch,
        "DVC_REMOTE": REMOTES.dvc,
        "PREFECT_API_URL": "http://prefect:4200/api",
    }


def test_what_only_a_person_knows_is_said(repository: Path) -> None:
    written = new_training(
        repository, Wanted(ENVIRONMENT, "training", None), Remotes("/srv/git", "main", None)
    )
    lines = [place.rpartition(":") for place in written.unfilled]
    unfilled = [(repository / path).read_text().splitlines()[int(line) - 1] for path, _, line in lines]
    assert [line.split(":")[0].strip() for line in unfilled] == [
        "newName",
        "GIT_URL",
        "DVC_REMOTE",
        "PREFECT_API_URL",
    ]


def test_again_it_overwrites_nothing_and_writes_what_is_missing(repository: Path) -> None:
    new_training(repository, WANTED, REMOTES)
    job, worker = (repository / "k8s/training" / name for name in ("job.yaml", "worker.yaml"))
    job.write_text("mine\n")
    worker.unlink()
    again = new_training(repository, WANTED, REMOTES)
    assert again.paths == [Path("k8s/training/worker.yaml")]
    assert job.read_text() == "mine\n"
    assert new_training(repository, WANTED, REMOTES) == Written([], [], again.next)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("local", "training", None), "local is of this machine"),
        (Wanted(ENVIRONMENT, NAMESPACE, None), "is where the models of production serve"),
        (Wanted(ENVIRONMENT, "Training!", None), "Training!"),
        (Wanted(ENVIRONMENT, "training", "http://prefect:4200"), "is no Prefect API"),
        (Wanted(ENVIRONMENT, "training", "prefect/api"), "is no Prefect API"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    repository: Path, wanted: Wanted, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        new_training(repository, wanted, REMOTES)
    assert not (repository / "k8s/training").exists()


def test_an_environment_that_is_not_there_is_named(repository: Path) -> None:
    with pytest.raises(NotFound, match="staging"):
        new_training(repository, Wanted("staging", "training", None), REMOTES)
