from __future__ import annotations

import pytest

from coalmine.audit.ledger import Ledger, read_ledger
from coalmine.registry.repository import Repository
from tests.audit.conftest import World, make_world
from tests.audit.told import tell


@pytest.fixture(scope="package")
def told(tmp_path_factory: pytest.TempPathFactory) -> World:
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = make_world(tmp_path_factory.mktemp("told"), monkeypatch)
        tell(world)
    return world


@pytest.fixture(scope="package")
def plain(told: World, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone of the remote, with nothing but what Git has."""
    top = tmp_path_factory.mktemp("plain") / "clone"
    told.git("clone", "-q", str(told.remote), str(top))
    return Repository.open(top)


@pytest.fixture(scope="package")
def ledger(plain: Repository) -> Ledger:
    return read_ledger(plain)
