"""The image, built for real from a user's repository, and a release that it fetches and serves.

Slow at first, since the libraries come from the package index; afterwards buildah has the layers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hatchling.builders.wheel import WheelBuilder
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from coalmine.operations.image import Built, build_image
from coalmine.operations.workspace import Workspace
from coalmine.scaffold.repository import init
from coalmine.spec import Task
from pipelines.features import minute_of_day
from tests.ports import reserved_port
from tests.scenarios.container import Container, Image, started, unpacked
from tests.serving import releases

TOP = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.11-slim-bookworm"
# How a build without root of its own reaches the package index: as this machine does.
AS_THIS_MACHINE = (
    *("--network", "host", "--isolation", "chroot"),
    *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
)
READY_WITHIN_S = 30.0


def _missing() -> str | None:
    """Why no image is built here; None when one is."""
    if not os.environ.get("COALMINE_TEST_IMAGE"):
        return "builds an image for some minutes: set COALMINE_TEST_IMAGE=1"
    if os.geteuid() != 0:
        return "containers need root here"
    absent = [program for program in ("buildah", "runc") if shutil.which(program) is None]
    if absent:
        return f"no {' and no '.join(absent)} (Debian: apt install {' '.join(absent)})"
    if subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True).returncode != 0:
        return f"no base image {BASE} (buildah pull {BASE})"
    return None


WHY_NOT = _missing()
pytestmark = [
    pytest.mark.image,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or ""),
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, _quiet_machine: None) -> Workspace:
    init(tmp_path_factory.mktemp("shop") / "shop", examples=())
    return Workspace.open(tmp_path_factory.getbasetemp() / "shop0/shop")


@pytest.fixture(scope="module", autouse=True)
def _as_installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """coalmine from a wheel, which stays the same while a person edits the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    (wheel,) = WheelBuilder(str(TOP)).build(directory=str(folder), versions=["standard"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coalmine.operations.image._origin", lambda: Path(wheel))
        # A docker that works here would need other options.
        patch.setattr("coalmine.operations.image_tool.PROGRAMS", ("buildah",))
        yield


@pytest.fixture(scope="module")
def built(shop: Workspace) -> Iterator[Built]:
    began = time.monotonic()
    made = build_image(shop, print, tag="coalmine.test/shop", options=AS_THIS_MACHINE)
    print(f"built in {time.monotonic() - began:.0f} s")
    yield made
    subprocess.run(["buildah", "rmi", made.reference], capture_output=True, check=False)


@pytest.fixture(scope="module")
def image(built: Built) -> Iterator[Image]:
    with unpacked(built.reference) as image:
        yield image


# --- what it is ------------------------------------------------------------------------


def test_it_says_what_it_was_built_from_and_runs_as_nobody(image: Image, built: Built) -> None:
    config = image.config
    assert config["Labels"]["org.opencontainers.image.revision"] == built.commit
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["python", "-m", "coalmine.serving"]
    assert {"OMP_NUM_THREADS=1", "ORT_DISABLE_TELEMETRY=1"} <= set(config["Env"])


def test_it_holds_the_code_of_the_commit(image: Image, shop: Workspace) -> None:
    code = image.root / "opt/coalmine/code"
    there = {str(path.relative_to(code)) for path in code.rglob("*") if path.is_file()}
    assert there == set(shop.repository.git("ls-tree", "-r", "--name-only", "HEAD", "pipelines/").split())


def test_what_a_server_does_not_need_is_not_in_it(image: Image) -> None:
    (libraries,) = (image.root / "opt/coalmine/lib").glob("python*/site-packages")
    packages = {path.name for path in libraries.iterdir()}
    assert {"coalmine", "numpy", "onnxruntime", "httptools", "dvc_objects"} <= packages
    assert not packages & {"dvc", "git", "pygit2", "dulwich", "prefect", "kubernetes", "envoy", "pip"}
    programs = {
        path.name for folder in ("usr/bin", "opt/coalmine/bin") for path in (image.root / folder).iterdir()
    }
    assert not programs & {"gcc", "cc", "make", "git"}


def test_its_bytecode_is_complete_and_asks_for_no_times(image: Image) -> None:
    """Else every start compiles again what a read-only root cannot keep."""
    (libraries,) = (image.root / "opt/coalmine/lib").glob("python*/site-packages")
    unchecked = (1).to_bytes(4, "little")  # PEP 552
    compiled = list(libraries.rglob("*.pyc"))
    assert [str(path) for path in compiled if path.read_bytes()[4:8] != unchecked] == []
    for package in ("coalmine", "numpy", "onnxruntime", "pyarrow"):
        assert list((libraries / package).glob("__pycache__/__init__.*.pyc")), package


def test_no_configuration_of_this_machines_pip_is_left_in_it(image: Image) -> None:
    for path in ("etc/pip.conf", "root/.config/pip", "root/.pip", "root/.cache/pip"):
        found = image.root / path
        assert not found.exists() or (found.is_file() and found.stat().st_size == 0), path
    assert not [each for each in image.config["Env"] if each.startswith("PIP_")]


def test_built_anew_it_is_the_same_image(shop: Workspace, built: Built) -> None:
    options = ("--no-cache", *AS_THIS_MACHINE)
    again = build_image(shop, print, tag="coalmine.test/again", options=options)
    subprocess.run(["buildah", "rmi", again.reference], capture_output=True, check=False)
    assert again.digest == built.digest


# --- what it does ----------------------------------------------------------------------


def _by_scikit_learn(folder: Path) -> releases.Built:
    """A model with a function of pipelines/, which only the image's code can tell."""
    rows = pd.DataFrame({"hour": [i % 24 for i in range(300)], "minute": [7 * i % 60 for i in range(300)]})
    clock = ColumnTransformer([("clock", FunctionTransformer(minute_of_day), ["hour", "minute"])])
    model = make_pipeline(clock, HistGradientBoostingClassifier(max_iter=5, random_state=0))
    late = [i % 24 >= 17 for i in range(300)]
    return releases.build(folder, model, rows, late, Task.BINARY)


def _translated(folder: Path) -> releases.Built:
    rows = releases.flights()
    target = (rows["distance"] > 1500).tolist()
    return releases.compile_release(releases.build(folder, releases.trees(), rows, target, Task.BINARY))


class Pod:
    """A release on a DVC remote, and the volume that the two containers of a pod share."""

    def __init__(self, image: Image, release: releases.Built, top: Path) -> None:
        self.image, self.release, self.top = image, release, top
        self.config, self.store, self.volume = top / "config", top / "store", top / "volume"
        for folder in (self.config, self.store, self.volume):
            folder.mkdir()
        shutil.copy(release.folder / "manifest.yaml", self.config)
        for file in release.manifest.all_files:
            place = self.store / "files/md5" / file.md5[:2] / file.md5[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(release.folder / "files" / file.path, place)
        self.volumes = {
            "/etc/coalmine": f"{self.config}:ro",
            "/store": f"{self.store}:ro",
            "/release": str(self.volume),
        }

    def fetch(self) -> tuple[int, str]:
        words = ["--manifest", "/etc/coalmine/manifest.yaml", "--digest", self.release.manifest.digest]
        places = ["--remote", "/store", "--code", "/opt/coalmine/code", "--into", "/release"]
        command = ["coalmine", "fetch", *words, *places]
        with started(self.image, self.top / "fetch", command, self.volumes) as container:
            return container.ended()

    def server(self, port: int) -> AbstractContextManager[Container]:
        entry = self.image.config["Entrypoint"]
        options = ["--release", "/release", "--slot", "blue", "--host", "127.0.0.1", "--port", str(port)]
        volumes = {**self.volumes, "/release": f"{self.volume}:ro"}
        return started(self.image, self.top / "serve", [*entry, *options], volumes)


def _ready_after_s(server: Container, port: int, began: float) -> float:
    while time.monotonic() - began < READY_WITHIN_S:
        assert server.process.poll() is None, server.ended()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                return time.monotonic() - began
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise AssertionError("not ready in time")


def _infer(built: releases.Built, port: int, rows: list[int]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/{built.manifest.model}/infer",
        data=json.dumps({"inputs": releases.tensors(built, rows)}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {each["name"]: each["data"] for each in json.load(answer)["outputs"]}


@pytest.mark.parametrize("make", [_by_scikit_learn, _translated], ids=["scikit-learn", "compiled"])
def test_a_pod_fetches_its_release_and_serves_it(image: Image, tmp_path: Path, make: Any) -> None:
    release = make(tmp_path / "released")
    pod = Pod(image, release, tmp_path)

    began = time.monotonic()
    status, said = pod.fetch()
    print(f"fetched in {time.monotonic() - began:.2f} s")
    assert status == 0, said

    port = reserved_port()
    began = time.monotonic()
    with pod.server(port) as server:
        print(f"ready after {_ready_after_s(server, port, began):.2f} s")
        found = _infer(release, port, [0, 1, 2])
        server.signal("TERM")
        status, said = server.ended()
    assert status == 0, said
    assert "telemetry" not in said, "onnxruntime would call home"
    for name, values in releases.expected(release, [0, 1, 2]).items():
        assert found[name] == pytest.approx(values)


def test_a_pod_whose_remote_is_away_tries_again(image: Image, tmp_path: Path) -> None:
    pod = Pod(image, _translated(tmp_path / "released"), tmp_path)
    shutil.rmtree(pod.store)
    pod.volumes.pop("/store")

    status, said = pod.fetch()
    assert status == 4, said
    assert "cannot be reached" in said
    assert "Traceback" not in said
