from __future__ import annotations

import pytest

from tests.k8s.environments import ROUTERS, AsWritten, Repository, builder, new_repository


@pytest.fixture(params=ROUTERS)
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A new one with both example models, for each of the routers."""
    builder()
    return new_repository(tmp_path_factory.mktemp("repository"), request.param)


@pytest.fixture(scope="session", params=ROUTERS)
def as_written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsWritten:
    """The same, which nobody edits: each state of its slots is built once."""
    builder()
    return AsWritten(new_repository(tmp_path_factory.mktemp("repository"), request.param))
