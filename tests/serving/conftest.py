from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from coalmine.spec import Task
from tests.serving.releases import Built, build, compile_release, flights, trees


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Built:
    rows = flights()
    late = (rows["distance"] > 1500) ^ (rows["carrier"] == "UA").to_numpy()
    return build(tmp_path_factory.mktemp("binary") / "release", trees(), rows, late.to_numpy(), Task.BINARY)


@pytest.fixture(scope="session")
def compiled(binary: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The same release as `binary`, answered by the translation of its model."""
    folder = tmp_path_factory.mktemp("compiled") / "release"
    shutil.copytree(binary.folder, folder)
    return compile_release(replace(binary, folder=folder))


@pytest.fixture(scope="session")
def compiled_strict(strict: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("compiled-strict") / "release"
    shutil.copytree(strict.folder, folder)
    return compile_release(replace(strict, folder=folder))


@pytest.fixture
def own_binary(tmp_path: Path) -> Built:
    """A release that the test may spoil."""
    rows = flights(100)
    late = (rows["distance"] > 1500).to_numpy()
    return build(tmp_path / "release", trees(), rows, late, Task.BINARY)


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Trained on complete rows, with an encoder that refuses carriers it has not seen."""
    rows = flights().dropna().reset_index(drop=True)
    columns = ColumnTransformer([("carrier", OneHotEncoder(), ["carrier"])], remainder="passthrough")
    model = make_pipeline(columns, StandardScaler(), LogisticRegression())
    target = (rows["distance"] > 1500).astype("int64").to_numpy()
    return build(tmp_path_factory.mktemp("strict") / "release", model, rows, target, Task.BINARY)


@pytest.fixture(scope="session")
def multiclass(tmp_path_factory: pytest.TempPathFactory) -> Built:
    rows = flights()[["distance"]].astype("float64")
    target = np.array(["short", "middle", "long"])[np.digitize(rows["distance"], [800, 1800])]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return build(tmp_path_factory.mktemp("multiclass") / "release", model, rows, target, Task.MULTICLASS)


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Built:
    rows = flights()[["distance"]].astype("float64")
    target = rows["distance"].to_numpy() * 0.1 + 20
    folder = tmp_path_factory.mktemp("regression") / "release"
    return build(folder, LinearRegression(), rows, target, Task.REGRESSION)
