"""Each story gets a copy of one prepared repository, with remotes and ports of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.registry.locks import exclusive
from tests.scenarios import lending
from tests.scenarios.workplace import MODEL, Workplace, copied, stopped_at_the_end

_GIT_CONFIG = "[user]\nname = Kim\nemail = kim@example.org\n[init]\ndefaultBranch = main\n"


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Git that knows Kim and nothing else, and one thread for each process."""
    config = tmp_path_factory.mktemp("git") / "config"
    config.write_text(_GIT_CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
        for role in ("AUTHOR", "COMMITTER"):
            patch.delenv(f"GIT_{role}_NAME", raising=False)
            patch.delenv(f"GIT_{role}_EMAIL", raising=False)
        # As in an activated environment, so that the stages of a plain `dvc repro` find their Python.
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, _quiet_machine: None) -> Path:
    """Three releases recorded, none delivered; made once for all workers of a run."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    top = shared / "lending"
    with exclusive(shared / "lending.lock", "The lender's repository", "a worker", wait_s=240):
        if not (shared / "lending.done").exists():
            lending.release_three(lending.begin(top))
            (shared / "lending.done").touch()
    return top


@pytest.fixture
def new_work(tmp_path: Path) -> Iterator[Workplace]:
    """Nothing is ingested, trained or delivered."""
    lending.begin(tmp_path / "lending")
    with stopped_at_the_end(copied(tmp_path / "lending", tmp_path / "work")) as work:
        yield work


@pytest.fixture
def work(released: Path, tmp_path: Path) -> Iterator[Workplace]:
    """1.0.0, 1.1.0 and 1.2.0 are recorded, and nothing serves."""
    with stopped_at_the_end(copied(released, tmp_path / "work")) as work:
        yield work


@pytest.fixture
def serving(work: Workplace) -> Workplace:
    """1.0.0 serves."""
    work.run("deliver", MODEL, "--version", "1.0.0")
    return work
