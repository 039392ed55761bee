from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.local.stack import LocalStack
from coalmine.rollout.ports import TrafficRouter
from coalmine.slots import Slot
from coalmine.telemetry.scrape import ScrapeTelemetry
from tests.local.harness import User, declared_router, fake_server, running_stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """Model `m` with a server in both slots."""
    with running_stack(tmp_path) as stack:
        for slot in Slot:
            stack.run(fake_server(stack, f"m-{slot}"))
        yield stack


@pytest.fixture
def router(stack: LocalStack) -> TrafficRouter:
    return declared_router(stack, "m")


@pytest.fixture
def telemetry(stack: LocalStack) -> ScrapeTelemetry:
    declared_router(stack, "m")
    return ScrapeTelemetry("m", stack.admin_address)


@pytest.fixture
def user(stack: LocalStack) -> Iterator[User]:
    user = User(stack)
    yield user
    user.close()
