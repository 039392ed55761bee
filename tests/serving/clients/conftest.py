from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.clients.environments import HERE, python_of
from tests.serving.releases import Built
from tests.serving.server_process import Server, running

Script = Callable[..., Any]


@pytest.fixture(scope="session")
def environments(request: pytest.FixtureRequest) -> Path:
    return request.config.cache.mkdir("clients")


@pytest.fixture(scope="session")
def script(environments: Path) -> Script:
    """Runs a file of this folder in the environment of `name`; what it prints, as JSON, is returned."""

    def run(name: str, file: str, given: dict[str, Any]) -> Any:
        ended = subprocess.run(
            [python_of(name, environments), HERE / file],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


@pytest.fixture(scope="module")
def flights(compiled: Built) -> Iterator[Server]:
    """Columns of every datatype by name; some of their values are missing."""
    with running(compiled.folder) as server:
        yield server
