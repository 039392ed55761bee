from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coalmine.spec import Task
from tests.serving import releases
from tests.serving.clients.environments import HERE, python_of
from tests.serving.releases import Built, build, tensors
from tests.serving.server_process import Server, running

Script = Callable[[str, str, dict[str, Any]], Any]

COMPLETE = [1, 2, 3]
GAPS = [7, 11]  # lacking `pressure`, lacking `carrier`
NO_NUMBER = [7]


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


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Numbers alone, which may come as one row-major tensor, and classes that are texts."""
    rows = releases.flights()[["distance", "pressure"]].dropna().astype("float64").reset_index(drop=True)
    target = np.array(["short", "middle", "long"])[np.digitize(rows["distance"], [800, 1800])]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folder = tmp_path_factory.mktemp("measured") / "release"
    return build(folder, model, rows, target, Task.MULTICLASS, name="measured")


@pytest.fixture(scope="module")
def numbers(measured: Built) -> Iterator[Server]:
    with running(measured.folder) as server:
        yield server


@pytest.fixture(scope="module")
def given(flights: Server, numbers: Server, compiled: Built, measured: Built) -> dict[str, Any]:
    """What a script asks about: rows as named columns, and as one matrix."""
    return {
        "flights": flights.url,
        "numbers": numbers.url,
        "complete": tensors(compiled, COMPLETE),
        "gaps": tensors(compiled, GAPS),
        "no number": tensors(compiled, NO_NUMBER),
        "outputs": [each.name for each in compiled.manifest.outputs],
        "matrix": measured.rows.iloc[COMPLETE].to_numpy().tolist(),
    }
