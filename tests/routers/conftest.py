from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalmine.local.stack import LocalStack
from coalmine.routers.envoy import EnvoyRouter
from tests.local.harness import User, declared_router


@pytest.fixture
def router(stack: LocalStack) -> EnvoyRouter:
    return declared_router(stack, "m")


@pytest.fixture
def user(stack: LocalStack) -> Iterator[User]:
    user = User(stack)
    yield user
    user.close()
